"""A bus on each database whose calls to the till are made after the commit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from actionbus import Bus
from tests.conftest import BusFactory
from tests.core.after_commit.till import Till, application
from tests.shop.actions.call_back import CallBack


@pytest.fixture(autouse=True)
def till(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Till]]:
    """Empty, and a handler that does nothing."""
    monkeypatch.setattr(CallBack, "function", lambda handler: None)
    Till.empty()
    yield Till
    Till.empty()


@pytest.fixture
def bus(make_bus: BusFactory) -> Bus:
    """Without a broker: calls are made by who commits."""
    return make_bus(application())


@pytest.fixture
def queueing(make_bus: BusFactory) -> Bus:
    """One that leaves calls to workers."""
    return make_bus(application(), leave_calls_to_workers=True)
