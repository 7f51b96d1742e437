"""Fixtures for tests of the core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from tests.conftest import BusFactory, prepared
from tests.servers import Server


@pytest.fixture(scope="module")
def databases(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, URL]]:
    """One of each with journal and shop, for all tests of a module, which empty the tables that they use."""
    made = {"sqlite": make_url(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'shop.db'}")}
    made["postgresql"] = server.database()
    for url in made.values():
        prepared(url)
    yield made
    server.drop(made["postgresql"])


@pytest.fixture
def shop(make_bus: BusFactory) -> Bus:
    """The shop, recorded, with two accounts that hold a hundred each."""
    bus = make_bus()
    bus.create()
    for number in (1, 2):
        bus.execute("open_account", {"id": number, "name": f"account {number}"})
        bus.execute("deposit", {"id": number, "amount": 100})
    return bus
