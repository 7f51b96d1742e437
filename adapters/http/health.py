"""Health and metrics: whether the process lives, whether it can serve, and Prometheus' numbers. They ask nobody who
they are: keep them from the outside at the proxy.
"""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from adapters.http.answer import Answer, shown
from adapters.http.api import Api
from adapters.http.problems import problem

try:
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

    from adapters.metrics import ProjectionCollector, RunCollector
except ImportError:  # pragma: no cover - depends on the installation
    CONTENT_TYPE_LATEST = ""


def live() -> Answer:
    """The process answers."""
    return shown({"status": "live"})


def ready(api: Api) -> Answer:
    """The database answers and has a journal."""
    try:
        there = api.bus.journal.exists()
    except SQLAlchemyError:
        there = False
    if not there:
        return problem(503, "unavailable", "Unavailable", "the database does not answer, or has no journal", retry=True)
    return shown({"status": "ready"})


def metrics(api: Api) -> Answer:
    """What Prometheus scrapes."""
    if not CONTENT_TYPE_LATEST:
        return problem(404, "not-found", "Not found", "metrics need the extra: pip install 'actionbus[metrics]'")
    looked_at = CollectorRegistry()
    looked_at.register(RunCollector(api.bus))
    if api.bus.application.projections:
        looked_at.register(ProjectionCollector(api.projections()))
    return Answer(200, generate_latest(REGISTRY) + generate_latest(looked_at), CONTENT_TYPE_LATEST)
