"""A bus on the shelf, its rows recorded, in an empty database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from tests.core.gateway.chunks.actions.put import Put
from tests.core.gateway.chunks.shelf import Post, make_shelf


@pytest.fixture
def shelf(url: URL) -> Iterator[Bus]:
    """On each of the two databases."""
    with Bus(make_shelf(), url) as bus:
        bus.create()
        yield bus


@pytest.fixture
def postgres_shelf(postgres_url: URL) -> Iterator[Bus]:
    """On PostgreSQL alone."""
    with Bus(make_shelf(), postgres_url) as bus:
        bus.create()
        yield bus


@pytest.fixture(autouse=True)
def functions() -> Iterator[dict[str, Callable[[Any], Any]]]:
    """What `put` can do besides; put back after each test."""
    Put.functions = {}
    Post.sent = []
    yield Put.functions
    Put.functions = {}
