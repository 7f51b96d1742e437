"""The composition root: makes buses and stores from settings, and finds the application that is meant."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.orm import Session

from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.es_repo import EsRepo
from actionbus.adapters.local_elasticsearch.server import LocalServer
from actionbus.adapters.settings import DEFAULT_APPLICATION, number, truth
from actionbus.core import Application, Broker, Bus, Middleware
from actionbus.core.queueing.own import OwnQueue
from actionbus.core.values.loading import load
from actionbus.projections.store import Store

EMBEDDED: Final = "embedded"


def store_for(
    engine: Engine, *, schema: str | None = None, where: str | None = None, prefix: str | None = None
) -> Store:
    """Where documents are kept: `where`, a URL or "embedded"; by default what ACTIONBUS_ELASTICSEARCH_URL says, else
    the local Elasticsearch if it runs, else the application's own database.

    `prefix` begins all names in Elasticsearch; by default what ACTIONBUS_ELASTICSEARCH_PREFIX says. Raises ImportError
    saying what to install, ValueError for an invalid prefix or settings that make no sense.
    """
    where = where or os.environ.get("ACTIONBUS_ELASTICSEARCH_URL") or LocalServer().url() or EMBEDDED
    if where == EMBEDDED:
        return EmbeddedStore(engine, schema)
    from actionbus.adapters.elasticsearch_client import options_of  # first: it says what to install

    options = options_of(os.environ)
    from actionbus.adapters.elasticsearch import ElasticsearchStore

    prefix = os.environ.get("ACTIONBUS_ELASTICSEARCH_PREFIX", "") if prefix is None else prefix
    return ElasticsearchStore(where, prefix=prefix, **options)


def bus_for(
    application: Application,
    database: str | Engine,
    *,
    schema: str | None = None,
    broker: str | None = None,
    session_factory: Callable[..., Session] | None = None,
    leave_calls_to_workers: object = None,
) -> Bus:
    """A bus as the command line, Flask and workers have it: with a broker if there is one, and traced and counted
    where OpenTelemetry and prometheus-client are installed.

    Who makes calls that wait for the commit says `leave_calls_to_workers`, true or false in any spelling, else the
    environment. Raises ImportError saying what to install, ValueError for an unusable broker, BadSetting.
    """
    left = (
        os.environ.get("ACTIONBUS_LEAVE_CALLS_TO_WORKERS") if leave_calls_to_workers is None else leave_calls_to_workers
    )
    return Bus(
        application,
        database,
        schema=schema,
        broker=broker_for(broker),
        middleware=telemetry(),
        session_factory=session_factory,
        leave_calls_to_workers=truth("LEAVE_CALLS_TO_WORKERS", left),
    )


def broker_for(broker: str | None) -> Broker:
    """The broker at a URL, by default of what ACTIONBUS_BROKER_URL says; else the database wakes workers itself.

    Raises ImportError saying what to install, ValueError for an unusable broker, BadSetting.
    """
    broker = broker or os.environ.get("ACTIONBUS_BROKER_URL")
    redeliver_after = number("REDELIVER_AFTER", float, 0.001, "a number of seconds, more than 0")
    attempts = number("ATTEMPTS", int, 1, "a whole number from 1 up")
    if not broker:
        return OwnQueue(redeliver_after=redeliver_after, attempts=attempts)
    from actionbus.adapters.celery import CeleryBroker

    return CeleryBroker(broker, redeliver_after=redeliver_after, attempts=attempts)


def telemetry() -> list[Middleware]:
    """Tracing and metrics, as far as their libraries are installed."""
    found: list[Middleware] = []
    if find_spec("opentelemetry") and find_spec("opentelemetry.trace"):
        from actionbus.adapters.tracing import Tracing

        found.append(Tracing())
    if find_spec("prometheus_client"):
        from actionbus.adapters.metrics import ActionMetrics

        found.append(ActionMetrics())
    return found


_stores: dict[tuple[object, ...], Store] = {}


def es_repo(session: Session) -> EsRepo:
    """Provider: reads the projections of the database that the action runs in. One store serves a process."""
    url = session.get_bind().engine.url
    told = (os.environ.get(f"ACTIONBUS_ELASTICSEARCH_{each}") for each in ("URL", "PREFIX"))
    place = (os.getpid(), url.render_as_string(hide_password=False), *told)
    if place not in _stores:
        # An engine of its own, so that what it reads is no part of the action's transaction.
        _stores[place] = store_for(create_engine(url, poolclass=NullPool))
    return EsRepo(_stores[place])


def load_application(path: str) -> Application:
    """The application at `module:attribute`. Raises ValueError saying what is wrong with the path."""
    # A file in the working directory may have the name of a module that the bundled one imports.
    found = load(path, "Application", from_here=path != DEFAULT_APPLICATION)
    if not isinstance(found, Application):
        raise ValueError(f"{path!r} is a {type(found).__name__}, not an Application")
    return found
