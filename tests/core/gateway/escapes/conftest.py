"""A bus with one connection, on databases that a module shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from actionbus import Bus
from tests.conftest import query
from tests.shop.app import make_application


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, databases: dict[str, URL]) -> URL:
    """One of the two, empty."""
    found = databases[request.param]
    query(found, "DELETE FROM accounts")
    return found


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    """A bus whose pool has one connection, so that what an action leaves behind meets the next."""
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=2)
    with Bus(make_application(), engine) as bus:
        yield bus
    engine.dispose()
