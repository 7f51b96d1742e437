"""ActionBus, the Flask extension: binds an Application to a Flask app, and gives views a runner for their caller."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from flask import Flask, request

from actionbus.adapters.flask.api import make_api
from actionbus.adapters.flask.problems import register_errors
from actionbus.adapters.flask.state import Authenticate, ExtensionState, runner_of_request
from actionbus.adapters.http.api import Api
from actionbus.adapters.http.job_settings import FOLDER, jobs_of
from actionbus.adapters.http.jobs import Jobs
from actionbus.adapters.http.origin import Gate
from actionbus.adapters.http.waiting import MOST, Waits
from actionbus.adapters.inspector.site import make_inspector
from actionbus.adapters.links import Links
from actionbus.adapters.unknown_settings import tell_unknown
from actionbus.adapters.wiring import bus_for
from actionbus.core import Application, Bus

log = logging.getLogger("actionbus.http")

INSPECTOR: Final = "/inspector"
"""Where it is, unless ACTIONBUS_INSPECTOR_PREFIX says otherwise."""


class ActionBus:
    """The extension. Give `application`, or a `bus` of yours; call `init_app` later for a factory.

    Config: ACTIONBUS_DATABASE_URL (default: SQLALCHEMY_DATABASE_URI), ACTIONBUS_SCHEMA, ACTIONBUS_BROKER_URL,
    ACTIONBUS_LEAVE_CALLS_TO_WORKERS (True or False),
    ACTIONBUS_ELASTICSEARCH_URL, ACTIONBUS_API (False leaves the generated API out), ACTIONBUS_URL_PREFIX,
    ACTIONBUS_ALLOWED_HOSTS and ACTIONBUS_ALLOWED_ORIGINS (see `adapters.http.origin`; lists, or text with commas),
    ACTIONBUS_MOST_WAITING (how many requests may wait for projections at a time).

    `inspector=True` puts the inspector at ACTIONBUS_INSPECTOR_PREFIX (`/inspector`), for those to whom the checkpoint
    grants `journal:read`: where Flask debugs or tests, elsewhere only where ACTIONBUS_INSPECTOR says so. Its jobs are
    kept in ACTIONBUS_JOBS (`var/inspector`), which gives them to the API too; they find the application by
    ACTIONBUS_APP (MODULE:ATTRIBUTE), or in the modules that were imported.

    `authenticate(request)` names the actor; None refuses the request with 401. Without it everybody is let in as
    nobody. Raises ValueError for both an `application` and a `bus`, or neither.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        application: Application | None = None,
        bus: Bus | None = None,
        authenticate: Authenticate | None = None,
        inspector: bool = False,
    ) -> None:
        if (application is None) == (bus is None):
            raise ValueError("give either application= or bus=")
        self._application, self._bus, self._authenticate = application, bus, authenticate
        self._inspector = inspector
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Bind to a Flask app. Raises ConfigurationError for a declaration that is wrong."""
        for told in tell_unknown([*os.environ, *app.config]):
            log.warning(told)
        bus = self._bus or self._make_bus(app)
        prefix = str(app.config.get("ACTIONBUS_URL_PREFIX") or "").rstrip("/")
        config = app.config
        gate = Gate(
            asks=self._authenticate is not None,
            hosts=_listed(config.get("ACTIONBUS_ALLOWED_HOSTS")),
            origins=_listed(config.get("ACTIONBUS_ALLOWED_ORIGINS")),
        )
        waits = Waits(int(config.get("ACTIONBUS_MOST_WAITING", MOST)))
        api = Api(bus, config.get("ACTIONBUS_ELASTICSEARCH_URL"), gate=gate, waits=waits, jobs=self._jobs(app, bus))
        links = Links.of({**os.environ, **config})
        where = str(config.get("ACTIONBUS_INSPECTOR_PREFIX", INSPECTOR)).rstrip("/")

        def page_of(action_id: UUID) -> str | None:
            if links.inspector or not (self._inspector and _is_inspected(app)):
                return links.page(action_id)
            return Links(inspector=f"{request.root_path.rstrip('/')}{where}/").page(action_id)

        app.extensions["actionbus"] = ExtensionState(api, self._authenticate, prefix, page_of)
        register_errors(app, prefix)
        if app.config.get("ACTIONBUS_API", True):
            app.register_blueprint(make_api(bus), url_prefix=prefix or None)
        if self._inspector:
            blueprint = make_inspector(api, runner_of_request, is_on=lambda: _is_inspected(app), links=links)
            app.register_blueprint(blueprint, url_prefix=where or None)

    def _jobs(self, app: Flask, bus: Bus) -> Callable[[], Jobs | None]:
        """Where jobs are kept, if they are: asked for each request, since Flask learns late that it debugs."""
        config = app.config

        @cache
        def kept(folder: Path) -> Jobs | None:
            where, documents = config.get("ACTIONBUS_APP"), config.get("ACTIONBUS_ELASTICSEARCH_URL")
            return jobs_of(bus, folder, app_path=where, elasticsearch=documents)

        def found() -> Jobs | None:
            folder = config.get("ACTIONBUS_JOBS", FOLDER if self._inspector and _is_inspected(app) else None)
            return kept(Path(folder)) if folder else None

        return found

    def _make_bus(self, app: Flask) -> Bus:
        config = app.config
        url = config.get("ACTIONBUS_DATABASE_URL") or config.get("SQLALCHEMY_DATABASE_URI")
        if not url:
            raise ValueError("set the config key ACTIONBUS_DATABASE_URL (or SQLALCHEMY_DATABASE_URI)")
        assert self._application is not None
        return bus_for(
            self._application,
            url,
            schema=config.get("ACTIONBUS_SCHEMA"),
            broker=config.get("ACTIONBUS_BROKER_URL"),
            leave_calls_to_workers=config.get("ACTIONBUS_LEAVE_CALLS_TO_WORKERS"),
        )


def _is_inspected(app: Flask) -> bool:
    """Asked for each request: Flask learns late that it debugs."""
    return bool(app.config.get("ACTIONBUS_INSPECTOR", app.debug or app.testing))


def _listed(given: Any) -> list[str]:
    """A list, or a text with commas between, as environment variables have it."""
    found = given.split(",") if isinstance(given, str) else list(given or [])
    return [each.strip() for each in found if each.strip()]
