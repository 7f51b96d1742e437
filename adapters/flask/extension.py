"""ActionBus, the Flask extension: binds an Application to a Flask app, and gives views a runner for their caller."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar, cast

from flask import Flask, current_app, g, request
from flask.wrappers import Request

from adapters.es_repo import EsRepo
from adapters.flask.caller import context_of, correlation_id_of
from adapters.wiring import bus_for, store_for
from core import ActionRunner, Application, Bus
from projections import Projections

P = ParamSpec("P")
R = TypeVar("R")
Authenticate = Callable[[Request], str | None]
"""Who sent a request; None if nobody is to be let in."""


@dataclass
class State:
    """What the extension keeps for one Flask app, in `app.extensions["actionbus"]`."""

    bus: Bus
    authenticate: Authenticate | None
    elasticsearch: str | None
    _projections: Projections | None = None

    def projections(self) -> Projections:
        """Where read models are looked at; connected when first asked for."""
        if self._projections is None:
            bus = self.bus
            self._projections = Projections(bus, store_for(bus.engine, bus.backend.schema, self.elasticsearch))
        return self._projections

    def es_repo(self) -> EsRepo:
        """Searches read models."""
        return EsRepo(self.projections().store)


class ActionBus:
    """The extension. Give `application`, or a `bus` of yours; call `init_app` later for a factory.

    Config: ACTIONBUS_DATABASE_URL (default: SQLALCHEMY_DATABASE_URI), ACTIONBUS_SCHEMA, ACTIONBUS_BROKER_URL,
    ACTIONBUS_ELASTICSEARCH_URL, ACTIONBUS_API (False leaves the generated API out), ACTIONBUS_URL_PREFIX.

    `authenticate(request)` names the actor; None refuses the request with 401. Without it everybody is let in as
    nobody.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        application: Application | None = None,
        bus: Bus | None = None,
        authenticate: Authenticate | None = None,
    ) -> None:
        if (application is None) == (bus is None):
            raise ValueError("give either application= or bus=")
        self._application, self._bus, self._authenticate = application, bus, authenticate
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Bind to a Flask app. Raises ConfigurationError for a declaration that is wrong."""
        from adapters.flask.api import make_api
        from adapters.flask.problems import register_errors

        bus = self._bus or self._make_bus(app)
        app.extensions["actionbus"] = State(bus, self._authenticate, app.config.get("ACTIONBUS_ELASTICSEARCH_URL"))
        prefix = str(app.config.get("ACTIONBUS_URL_PREFIX") or "").rstrip("/")
        register_errors(app, prefix)
        if app.config.get("ACTIONBUS_API", True):
            app.register_blueprint(make_api(bus), url_prefix=prefix or None)

    def _make_bus(self, app: Flask) -> Bus:
        config = app.config
        url = config.get("ACTIONBUS_DATABASE_URL") or config.get("SQLALCHEMY_DATABASE_URI")
        if not url:
            raise ValueError("set the config key ACTIONBUS_DATABASE_URL (or SQLALCHEMY_DATABASE_URI)")
        assert self._application is not None
        return bus_for(
            self._application, url, schema=config.get("ACTIONBUS_SCHEMA"), broker=config.get("ACTIONBUS_BROKER_URL")
        )


def state() -> State:
    """The extension's state for the current app. Raises RuntimeError if it has none."""
    found = current_app.extensions.get("actionbus")
    if found is None:
        raise RuntimeError("this Flask app has no actionbus; bind it: ActionBus(app, application=…)")
    return cast("State", found)


def current_bus() -> Bus:
    """The bus of the current app."""
    return state().bus


def runner_of_request() -> ActionRunner:
    """A runner for the caller of the current request. Raises Unauthorized."""
    found = state()
    return found.bus.runner(actor_of_request(), correlation_id=correlation_id_of(request), context=context_of(request))


def actor_of_request() -> str | None:
    """Who sent the current request, asked once. Raises Unauthorized."""
    from adapters.flask.problems import Unauthorized

    if "actionbus_actor" not in g:
        authenticate = state().authenticate
        actor = authenticate(request) if authenticate else None
        if authenticate and actor is None:
            raise Unauthorized
        g.actionbus_actor = actor
    return cast("str | None", g.actionbus_actor)


def provide_action_runner(view: Callable[P, R]) -> Callable[P, R]:
    """Decorate a view: while it runs, `flask.g.action_runner` is the gateway, bound to the request's caller."""

    @functools.wraps(view)
    def with_runner(*args: P.args, **kwargs: P.kwargs) -> R:
        runner = g.action_runner = runner_of_request()
        try:
            return view(*args, **kwargs)
        finally:
            runner.close()

    return with_runner
