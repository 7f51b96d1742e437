"""What tests of the claim share: a bus with the application of `tests.queued` on each database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from tests.conftest import prepared
from tests.queued.app import create_tables, make_application

Make = Callable[..., Bus]


@pytest.fixture
def make(url: URL) -> Iterator[Make]:
    """Makes buses on one database, by default without a broker."""
    prepared(url)
    made: list[Bus] = []

    def make_bus(application: Application | None = None, **options: Any) -> Bus:
        bus = Bus(application or make_application(), url, **options)
        if not made:
            create_tables(bus.engine)
        made.append(bus)
        return bus

    yield make_bus
    for bus in made:
        bus.close()


def steps(bus: Bus) -> list[tuple[str, int]]:
    """The steps taken, in the order of their outcomes."""
    records = bus.journal.read(kind="outcome", status="succeeded")
    return [(r.arguments["track"], r.result["number"]) for r in records if r.action in ("take_step", "step_aside")]


def rows(bus: Bus, sql: str) -> list[Any]:
    """What one statement reads."""
    with bus.engine.connect() as connection:
        return list(connection.execute(text(sql)))
