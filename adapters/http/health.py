"""Health and metrics: whether the process lives, whether it can serve, and Prometheus' numbers. They ask nobody who
they are: keep them from the outside at the proxy.
"""

from __future__ import annotations

import logging

from sqlalchemy.exc import SQLAlchemyError

from actionbus.adapters.http.answer import Answer, shown
from actionbus.adapters.http.api import Api
from actionbus.adapters.http.problems import Problem

log = logging.getLogger("actionbus.http")

try:
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

    from actionbus.adapters.metrics import RunCollector, collectors_of
except ImportError:  # pragma: no cover - depends on the installation
    CONTENT_TYPE_LATEST = ""


def live() -> Answer:
    """Whether the process answers: always 200."""
    return shown({"status": "live"})


def ready(api: Api) -> Answer:
    """The database answers and has a journal."""
    try:
        if api.bus.journal.exists():
            return shown({"status": "ready"})
        detail = "the database has no journal; run `actionbus db upgrade`"
    except SQLAlchemyError as error:
        log.warning("not ready", exc_info=error)
        detail = "the database does not answer"
    return Problem(503, "unavailable", "Unavailable", detail, retry=True).answer()


def metrics(api: Api) -> Answer:
    """What Prometheus scrapes."""
    if not CONTENT_TYPE_LATEST:
        return Problem(404, "not-found", "Not found", "metrics need: pip install 'actionbus[metrics]'").answer()
    looked_at = CollectorRegistry()
    looked_at.register(RunCollector(api.bus))
    for collector in collectors_of(api.bus, api.projections() if api.bus.application.projections else None):
        looked_at.register(collector)
    return Answer(200, generate_latest(REGISTRY) + generate_latest(looked_at), CONTENT_TYPE_LATEST)
