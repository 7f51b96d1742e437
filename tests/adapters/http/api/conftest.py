"""The reference application over HTTP, and two of its users."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, g, request

from actionbus import Bus
from actionbus.adapters.library.tokens import authenticator, issue
from actionbus.flask import ActionBus, provide_action_runner
from tests.adapters.http.api.client import Client


@pytest.fixture
def bus(library_bus: Bus) -> Bus:
    """The reference application on a new database, its documents in the database too."""
    return library_bus


@pytest.fixture
def app(bus: Bus) -> Flask:
    app = Flask("test")
    app.config["ACTIONBUS_ELASTICSEARCH_URL"] = "embedded"
    ActionBus(app, bus=bus, authenticate=authenticator(bus))

    @app.post("/kits")
    @provide_action_runner
    def create_kit() -> Any:
        return g.action_runner.execute("create_kit", request.get_json()).result

    @app.post("/broken")
    @provide_action_runner
    def keep() -> Any:
        app.extensions["kept"] = g.action_runner
        return {}

    return app


@pytest.fixture
def ana(app: Flask, bus: Bus) -> Client:
    return Client(app, issue(bus, "ana"))


@pytest.fixture
def bob(app: Flask, bus: Bus) -> Client:
    return Client(app, issue(bus, "bob"))
