"""ActionBus, the Flask extension: binds an Application to a Flask app, and gives views a runner for their caller."""

from __future__ import annotations

from typing import Any

from flask import Flask

from actionbus.adapters.flask.api import make_api
from actionbus.adapters.flask.problems import register_errors
from actionbus.adapters.flask.state import Authenticate, State
from actionbus.adapters.http.api import Api
from actionbus.adapters.http.origin import Gate
from actionbus.adapters.http.waiting import MOST, Waits
from actionbus.adapters.wiring import bus_for
from actionbus.core import Application, Bus


class ActionBus:
    """The extension. Give `application`, or a `bus` of yours; call `init_app` later for a factory.

    Config: ACTIONBUS_DATABASE_URL (default: SQLALCHEMY_DATABASE_URI), ACTIONBUS_SCHEMA, ACTIONBUS_BROKER_URL,
    ACTIONBUS_ELASTICSEARCH_URL, ACTIONBUS_API (False leaves the generated API out), ACTIONBUS_URL_PREFIX,
    ACTIONBUS_ALLOWED_HOSTS and ACTIONBUS_ALLOWED_ORIGINS (see `adapters.http.origin`; lists, or text with commas),
    ACTIONBUS_MOST_WAITING (how many requests may wait for projections at a time).

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
        bus = self._bus or self._make_bus(app)
        prefix = str(app.config.get("ACTIONBUS_URL_PREFIX") or "").rstrip("/")
        config = app.config
        gate = Gate(
            asks=self._authenticate is not None,
            hosts=_listed(config.get("ACTIONBUS_ALLOWED_HOSTS")),
            origins=_listed(config.get("ACTIONBUS_ALLOWED_ORIGINS")),
        )
        waits = Waits(int(config.get("ACTIONBUS_MOST_WAITING", MOST)))
        api = Api(bus, config.get("ACTIONBUS_ELASTICSEARCH_URL"), gate=gate, waits=waits)
        app.extensions["actionbus"] = State(api, self._authenticate, prefix)
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


def _listed(given: Any) -> list[str]:
    """A list, or a text with commas between, as environment variables have it."""
    found = given.split(",") if isinstance(given, str) else list(given or [])
    return [each.strip() for each in found if each.strip()]
