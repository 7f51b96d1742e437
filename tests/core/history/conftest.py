"""Fixtures for tests of the row history."""

from __future__ import annotations

import pytest

from tests.conftest import BusFactory
from tests.core.history.capturing import Captured


@pytest.fixture
def captured(make_postgres_bus: BusFactory) -> Captured:
    """A PostgreSQL database with a journal."""
    return Captured(make_postgres_bus())
