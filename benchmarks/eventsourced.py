"""The contestant: the library `eventsourcing`, which loads an aggregate of five events and saves a sixth.

The same in every round: its aggregates grow with each event that is saved, so that with the same ones throughout the
length of the run would decide.
"""

from __future__ import annotations

import multiprocessing
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from sqlalchemy.engine import URL

from benchmarks.setting import Contestant

EVENTS = 5


class Tally(Aggregate):
    """An aggregate with one kind of event."""

    def __init__(self) -> None:
        self.n = 0

    @event("CountedUp")
    def count_up(self, by: int) -> None:
        """Count."""
        self.n += by


def eventsourcing(url: URL) -> Contestant:
    """Load, trigger an event, save."""
    store: Application = Application(env=_settings(url))
    fresh: list[UUID] = []

    def make(count: int) -> None:
        fresh.clear()
        for _ in range(count):
            tally = Tally()
            for _ in range(EVENTS - 1):
                tally.count_up(1)
            store.save(tally)
            fresh.append(tally.id)

    def step(_number: int) -> None:
        tally: Tally = store.repository.get(fresh.pop())
        tally.count_up(1)
        store.save(tally)

    return Contestant(step, make)


def _settings(url: URL) -> dict[str, str]:
    if url.drivername.startswith("sqlite"):
        return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": f"{url.database}-es"}
    settings = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(url.database),
        "POSTGRES_HOST": str(url.query.get("host", url.host)),
        "POSTGRES_PORT": str(url.port or 5432),
        "POSTGRES_USER": str(url.username),
        "POSTGRES_PASSWORD": str(url.password or "-"),
    }
    if multiprocessing.parent_process() is not None:
        settings["CREATE_TABLE"] = "no"  # eight clients that create it at once fail; the first client did it
    return settings
