"""The reference application behind its HTTP API, for the tests of one promise each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters.library.app import library
from actionbus.adapters.library.tokens import authenticator, issue
from actionbus.adapters.wiring import bus_for
from actionbus.flask import ActionBus
from actionbus.projections import Projections, Projector
from actionbus.testing import HeldBroker
from tests.adapters.library_tables import prepared_library


class Web:
    """The application on a new database, its documents in the database too; `as_` gives a client with a token."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.app = bus, Flask("test")
        self.app.config["ACTIONBUS_ELASTICSEARCH_URL"] = "embedded"
        ActionBus(self.app, bus=bus, authenticate=authenticator(bus))

    @property
    def operations(self) -> Projections:
        found: Projections = self.app.extensions["actionbus"].projections()
        return found

    def as_(self, actor: str) -> FlaskClient:
        client = self.app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {issue(self.bus, actor)}"
        return client

    def project(self) -> None:
        """Feed all projections once."""
        Projector(self.bus, self.operations.store).catch_up()


@pytest.fixture
def library_bus(url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    (tmp_path / "exports").mkdir()
    monkeypatch.setenv("ACTIONBUS_EXPORTS", str(tmp_path / "exports"))
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", "embedded")
    prepared_library(url)
    with bus_for(library, url) as found:
        found.services.broker = HeldBroker()
        yield found


@pytest.fixture
def web(library_bus: Bus) -> Web:
    return Web(library_bus)


@pytest.fixture
def do() -> Callable[..., Any]:
    """Run an action over HTTP; its result."""

    def run(client: FlaskClient, action: str, /, **arguments: Any) -> Any:
        response = client.post(f"/actions/{action}", json=arguments)
        assert response.status_code == 200, response.text
        return response.get_json()["result"]

    return run
