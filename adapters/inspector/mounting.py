"""The inspector as a WSGI application: for `actionbus inspect`, and to be mounted anywhere (`actionbus.inspector`)."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from flask import Flask

from actionbus.adapters.flask.extension import ActionBus
from actionbus.adapters.flask.state import Authenticate
from actionbus.adapters.http.api import Api
from actionbus.adapters.http.jobs import Jobs
from actionbus.adapters.http.waiting import Waits
from actionbus.adapters.inspector.door import Door
from actionbus.adapters.inspector.site import make_inspector
from actionbus.adapters.links import Links
from actionbus.core import Bus

THREADS: Final = 8
"""That `actionbus inspect` serves with: half of them may follow the journal."""


def inspector_app(
    bus: Bus,
    *,
    authenticate: Authenticate,
    elasticsearch: str | None = None,
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
    jobs: str | Path | None = None,
) -> Any:
    """A WSGI application that shows a bus's history to whom the application's checkpoint grants `journal:read`.

    `authenticate(request)` names the actor, None lets nobody in; `hosts`, `origins` are as for `ActionBus`;
    `jobs` is the folder for what takes its time. Mount it where you like: it finds out where that is from SCRIPT_NAME.
    """
    app = Flask("actionbus_inspector", static_folder=None)
    app.config.update(
        ACTIONBUS_API=False,
        ACTIONBUS_INSPECTOR=True,
        ACTIONBUS_INSPECTOR_PREFIX="",
        ACTIONBUS_ELASTICSEARCH_URL=elasticsearch,
        ACTIONBUS_ALLOWED_HOSTS=list(hosts),
        ACTIONBUS_ALLOWED_ORIGINS=list(origins),
        ACTIONBUS_JOBS=jobs,
    )
    ActionBus(app, bus=bus, authenticate=authenticate, inspector=True)
    return app


def app_behind(door: Door, bus: Bus, elasticsearch: str | None = None, jobs: Jobs | None = None) -> Any:
    """The same behind a door: whoever is let in is the operator, and may begin jobs."""
    app = Flask("actionbus_inspector", static_folder=None)
    api = Api(bus, elasticsearch, waits=Waits(THREADS), jobs=lambda: jobs)
    blueprint = make_inspector(api, door.admit, links=Links.of(os.environ))
    blueprint.add_url_rule("/enter", "enter", door.enter)
    app.register_blueprint(blueprint)
    return app


__all__ = ["app_behind", "inspector_app"]
