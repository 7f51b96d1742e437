"""Fixtures for tests of the core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from tests.conftest import BusFactory, prepared
from tests.copies import copied
from tests.servers import Server
from tests.shop.app import make_application


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
def shop(url: URL, make_bus: BusFactory) -> Bus:
    """The shop, recorded, with two accounts that hold a hundred each."""
    if not copied(url, "shop with accounts", create_accounts):
        create_accounts(url)
    return make_bus()


def create_accounts(url: URL) -> None:
    """The shop, recorded, and what `shop` says of it."""
    with Bus(make_application(), url) as bus:
        bus.create()
        for number in (1, 2):
            bus.execute("open_account", {"id": number, "name": f"account {number}"})
            bus.execute("deposit", {"id": number, "amount": 100})
