"""A SQLite database whose recorded tables are made by a plain client. Used by tests of capturing."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any

from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.history.install import install, status
from actionbus.core.history.shapes import TableStatus, TableWanted, sqlite_shapes
from actionbus.core.storage.names import quoted
from tests.shop.app import make_application


class Recorded:
    """A database whose tables are made by a plain client."""

    def __init__(self, url: URL) -> None:
        self.bus = Bus(make_application(), url)
        self.bus.journal.create()
        self.path = str(url.database)
        self.client = sqlite3.connect(self.path, isolation_level=None)
        self.client.execute("PRAGMA foreign_keys=ON")

    def install(self, *names: str, withheld: tuple[str, ...] = (), baseline: bool = False) -> list[str]:
        with self.bus.engine.begin() as connection:
            return install(
                self.bus.backend, connection, [TableWanted(n, None, withheld) for n in names], baseline=baseline
            )

    def status(self, *names: str) -> list[TableStatus]:
        with self.bus.engine.connect() as connection:
            return status(self.bus.backend, connection, [TableWanted(name) for name in names] or None)

    def made(self, sql: str, *names: str) -> None:
        self.client.executescript(sql)
        self.install(*names)

    def images(self, table: str) -> list[tuple[str, Any, tuple[Any, ...] | None, tuple[Any, ...] | None]]:
        """Operation, key, before, after."""
        with self.bus.engine.connect() as connection:
            shapes = [s for s in sqlite_shapes(connection, "main.") if s.table_name == table]
        found: list[Any] = []
        for shape in shapes:
            number = len(shape.columns)
            columns = [f"{side}{n}" for side in "on" for n in range(1, number + 1)]
            for image, operation, key, *values in self.client.execute(
                f"SELECT image, operation, key, {', '.join(columns)} FROM actionbus_images WHERE shape = ?",
                (shape.shape,),
            ):
                before = tuple(values[:number]) if operation in "ud" else None
                after = tuple(values[number:]) if operation in "iub" else None
                found.append((image, (operation, key, before, after)))
        return [each for _, each in sorted(found, key=lambda one: one[0])]

    def folded(self, table: str) -> Counter[Any]:
        total: Counter[Any] = Counter()
        for _, _, before, after in self.images(table):
            if before is not None:
                total[exact(before)] -= 1
            if after is not None:
                total[exact(after)] += 1
        return +total

    def rows(self, table: str) -> Counter[Any]:
        return Counter(exact(row) for row in self.client.execute(f"SELECT * FROM {quoted(table)}"))


def exact(row: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(f"{type(value).__name__}:{value!r}" for value in row)
