"""Health and metrics: whether the process lives, whether it can serve, and Prometheus' numbers."""

from __future__ import annotations

import json

from flask import Blueprint, Response
from sqlalchemy.exc import SQLAlchemyError

from adapters.flask.extension import current_bus, state
from adapters.flask.problems import problem

try:
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

    from adapters.metrics import ProjectionCollector, RunCollector
except ImportError:  # pragma: no cover - depends on the installation
    CONTENT_TYPE_LATEST = ""


def add_health(api: Blueprint) -> None:
    """Add the routes. They ask nobody who they are: keep them from the outside at the proxy."""
    api.add_url_rule("/health/live", "live", _live)
    api.add_url_rule("/health/ready", "ready", _ready)
    api.add_url_rule("/metrics", "metrics", _metrics)


def _live() -> Response:
    """The process answers."""
    return _told({"status": "live"})


def _ready() -> Response:
    """The database answers and has a journal."""
    try:
        ready = current_bus().journal.exists()
    except SQLAlchemyError:
        ready = False
    if not ready:
        return problem(503, "unavailable", "Unavailable", "the database does not answer, or has no journal", retry=True)
    return _told({"status": "ready"})


def _metrics() -> Response:
    if not CONTENT_TYPE_LATEST:
        return problem(404, "not-found", "Not found", "metrics need the extra: pip install 'actionbus[metrics]'")
    found = state()
    looked_at = CollectorRegistry()
    looked_at.register(RunCollector(found.bus))
    if found.bus.application.projections:
        looked_at.register(ProjectionCollector(found.projections()))
    return Response(generate_latest(REGISTRY) + generate_latest(looked_at), content_type=CONTENT_TYPE_LATEST)


def _told(value: dict[str, str]) -> Response:
    return Response(json.dumps(value), content_type="application/json")
