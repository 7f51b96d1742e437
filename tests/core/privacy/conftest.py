"""A clinic on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL

from tests.core.privacy.actions.admit import Admit
from tests.core.privacy.clinic import Clinic


@pytest.fixture(autouse=True)
def put_back_admit() -> Iterator[None]:
    """No test leaves its function in `admit`."""
    function = Admit.function
    yield
    Admit.function = function


@pytest.fixture
def clinic(url: URL) -> Iterator[Clinic]:
    """On each database in turn."""
    clinic = Clinic(url)
    yield clinic
    clinic.bus.close()
