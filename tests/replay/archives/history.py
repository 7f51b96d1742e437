"""A short history of the shop with something of everything, and what is told of it before and after an archive."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import text

from actionbus import Bus, HistoryError
from actionbus.core.storage.archives import Archive
from actionbus.replay.archives.archive import archive

KEYED = "CREATE TABLE pairs (a INTEGER, b INTEGER, v TEXT, PRIMARY KEY (a, b))"
KEYLESS = "CREATE TABLE loose (v TEXT, n INTEGER)"


def nobody(_what: str) -> Callable[[], None]:
    """Watches nothing."""
    return lambda: None


def archived(bus: Bus, upto: int, folder: Path | None = None) -> Archive:
    """All up to a position, by an operator."""
    return archive(bus, upto, folder, actor="ops", operator=True, watch=nobody)


def live(bus: Bus, steps: int, seed: int = 1) -> None:
    """Actions that succeed, fail, are refused, nest and repeat, and writes past the gateway."""
    chance = random.Random(seed)
    for number in range(steps):
        what, account = chance.randrange(9), chance.randrange(1, 6)
        with suppress(Exception):
            if what == 0:
                bus.execute("open_account", {"id": account, "name": f"n{account}"}, actor="ann")
            elif what == 1:
                bus.execute("close_account", {"id": account}, actor="bob")
            elif what in (2, 3):
                bus.execute("deposit", {"id": account, "amount": number + 1}, idempotency_key=f"{seed}-{number}")
            elif what == 4:
                bus.execute("transfer", {"source": account, "target": 1 + account % 5, "amount": 1})
            elif what == 5:
                past_the_gateway(bus, f"UPDATE accounts SET balance = balance + 1 WHERE id >= {account}")
            elif what == 6:
                past_the_gateway(bus, f"INSERT INTO loose VALUES ('{account}', {account % 2})")
                past_the_gateway(bus, f"DELETE FROM loose WHERE v = '{chance.randrange(1, 6)}'")
            elif what == 7:
                past_the_gateway(bus, f"INSERT INTO pairs VALUES ({account}, {number}, 'x')")
                past_the_gateway(bus, f"UPDATE pairs SET v = v || 'y', b = b + 100 WHERE a = {account}")
            else:
                bus.execute("withdraw", {"id": account, "amount": 10_000})
    bus.execute("notify", {"to": "eve", "text": "x"})  # on SQLite what was written past the gateway is placed by it


def past_the_gateway(bus: Bus, sql: str) -> None:
    """One transaction of somebody else's."""
    with bus.engine.begin() as connection:
        connection.execute(text(sql))


def told(bus: Bus, position: int) -> dict[str, Any]:
    """The state of all tables."""
    return {name: sorted(rows, key=repr) for name, rows in bus.history.state(None, position).tables.items()}


def blamed(bus: Bus) -> list[Any]:
    """What became of each account, at positions beyond the cut; by whom."""
    found = []
    for account in range(1, 6):
        with suppress(HistoryError):
            changes = bus.history.rows("accounts", account).changes
            found.append([(c.operation, c.after, c.who.shown()["position"]) for c in changes])
    return found
