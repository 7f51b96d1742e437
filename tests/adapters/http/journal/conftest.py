"""The shop whose rows are recorded, and what its readers may see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, InvalidArguments
from tests.adapters.http.journal.reading import Web, shop
from tests.conftest import prepared
from tests.helpers import opened


@pytest.fixture
def web(url: URL) -> Iterator[Web]:
    prepared(url, recorded=True)
    found = shop(url)
    yield found
    found.bus.close()


@pytest.fixture
def told(web: Web) -> Web:
    """The same, with something to tell."""
    happened(web.bus)
    return web


def happened(bus: Bus) -> None:
    """Two accounts, some deposits, one refused, a transfer with what is nested in it."""
    opened(bus, 1, 2)
    for number in range(5):
        bus.execute("deposit", {"id": 1, "amount": 10, "note": f"note {number}"}, actor="bob", correlation_id="morning")
    try:
        bus.execute("deposit", {"id": 9}, actor="cid", correlation_id="evening")
    except InvalidArguments:
        pass
    bus.execute("transfer", {"source": 1, "target": 2, "amount": 3}, actor="ann")
