"""Fixtures for tests of the core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL, make_url

from tests.conftest import prepared
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
