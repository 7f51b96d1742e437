"""A bus on each database, with a broker in memory."""

from __future__ import annotations

import pytest

from actionbus import Bus
from tests.conftest import BusFactory
from tests.core.queues import Broker


@pytest.fixture
def queue() -> Broker:
    """Keeps messages until a test looks."""
    return Broker()


@pytest.fixture
def bus(make_bus: BusFactory, queue: Broker) -> Bus:
    """The shop, with that broker."""
    return make_bus(broker=queue)
