"""What happened at the inn: some reservations, some that were refused, and the import that doubled Dora's price."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

from sqlalchemy import text

from actionbus import Bus

GUESTS = ("Anna", "Ben", "Cleo", "Dora", "Emil", "Fay")


def tell(bus: Bus) -> UUID:
    """Let it happen; the id of the import that doubled the price of `r-dora`."""
    desk = bus.runner(
        "clerk", correlation_id="desk-1", context={"via": "http", "method": "POST", "path": "/reservations"}
    )
    for nights, guest in enumerate(GUESTS, 1):
        arguments = {"id": f"r-{guest.lower()}", "guest": guest, "nights": str(nights), "note": f"{guest} is allergic"}
        desk.execute("reserve", arguments)
    for actor, arguments in (("clerk", {"id": "x", "guest": "Gil", "nights": 0}), ("thief", {"id": "y", "guest": "T"})):
        with contextlib.suppress(Exception):
            bus.execute("reserve", arguments, actor=actor)
    with contextlib.suppress(Exception):
        desk.execute("reserve", {"id": "r-anna", "guest": "Anna"})
    night = bus.runner("channel-import", correlation_id="import-7", context={"via": "cron", "job": "prices"})
    done: Any = night.execute("import_prices", {"prices": {"r-cleo": "270", "r-dora": "360"}, "factor": "2"})
    bus.execute("reprice", {"id": "r-ben", "price": "150"}, actor="clerk")
    with bus.engine.begin() as connection:
        connection.execute(text("UPDATE reservations SET room = 'double' WHERE id = 'r-emil'"))
    bus.execute("reserve", {"id": "r-gil", "guest": "Gil"}, actor="clerk")
    desk.execute_async("reprice", {"id": "r-gil", "price": "91"}, countdown=86_400)
    found: UUID = done.action_id
    return found
