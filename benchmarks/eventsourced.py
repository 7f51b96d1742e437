"""The contestant: the library `eventsourcing` saving one event of an aggregate that is loaded already."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from sqlalchemy.engine import URL


class Tally(Aggregate):
    """An aggregate with one kind of event."""

    def __init__(self) -> None:
        self.n = 0

    @event("CountedUp")
    def count_up(self, by: int) -> None:
        """Count."""
        self.n += by


def eventsourcing_step(url: URL) -> Callable[[int], object]:
    """Trigger an event and save it."""
    if url.drivername.startswith("sqlite"):
        settings = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": f"{url.database}-es"}
    else:
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
    store: Application = Application(env=settings)
    tally = Tally()
    store.save(tally)

    def step(_number: int) -> None:
        tally.count_up(1)
        store.save(tally)

    return step
