"""A vault whose action spills its secret."""

from __future__ import annotations

import pytest

from actionbus import Bus
from tests.conftest import BusFactory
from tests.core.secrecy.spilling import _vaulted


@pytest.fixture
def vaulted(make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """A bus whose `call_back` takes a secret and something that is none."""
    return _vaulted(make_bus, monkeypatch, str)
