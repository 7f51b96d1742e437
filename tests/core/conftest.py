"""Fixtures for tests of the core."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from tests.conftest import BusFactory, prepared
from tests.copies import copied
from tests.servers import Server
from tests.shop.app import make_application


class Databases(dict[str, URL]):
    """One of each kind with journal and shop, made when it is first asked for."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._request, self._folder = request, folder

    def __missing__(self, kind: str) -> URL:
        if kind == "sqlite":
            self[kind] = make_url(f"sqlite:///{self._folder / 'shop.db'}")
        else:
            server: Server = self._request.getfixturevalue("server")
            self[kind] = server.database()
            self._request.addfinalizer(lambda: server.drop(self[kind]))
        prepared(self[kind])
        return self[kind]


@pytest.fixture(scope="module")
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """For all tests of a module, which empty the tables that they use."""
    return Databases(request, tmp_path_factory.mktemp("shared"))


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
