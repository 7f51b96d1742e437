"""The first position at which a query holds, asked of copies of tables as they were. Used by `core.history.history`."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from actionbus.core.errors import HistoryError
from actionbus.core.history.decoding import UNKNOWN, fields_of, row_text
from actionbus.core.history.fold import ValuesOf, as_of, common
from actionbus.core.history.images import Images, Residual
from actionbus.core.history.recorded import Recorded
from actionbus.core.storage.backend import quoted
from actionbus.core.storage.drivers import driver_connection


class Copy(ABC):
    """Copies of tables that a query sees in their stead; a column that is unknown is NULL in them."""

    def __init__(self, tables: Sequence[Recorded]) -> None:
        self._tables = {each.name: each for each in tables}

    @abstractmethod
    def fill(self, name: str, rows: Sequence[Residual], values_of: ValuesOf) -> None:
        """Put these rows in place of those of a table."""

    @abstractmethod
    def holds(self, sql: str) -> bool:
        """Whether the query's first value is true. Raises HistoryError for what is no query."""


class _OnSQLite(Copy):
    """A database in memory of its own."""

    def __init__(self, tables: Sequence[Recorded]) -> None:
        super().__init__(tables)
        self.database = sqlite3.connect(":memory:")
        for each in tables:
            columns = ", ".join(f"{quoted(c)} {t}" for c, t in zip(each.shape.columns, each.shape.types, strict=True))
            self.database.execute(f"CREATE TABLE {quoted(each.bare)} ({columns})")

    def fill(self, name: str, rows: Sequence[Residual], values_of: ValuesOf) -> None:
        table = self._tables[name]
        shapes = {each.shape: each for each in table.shapes}
        marks = ", ".join("?" * len(table.shape.columns))
        self.database.execute(f"DELETE FROM {quoted(table.bare)}")
        written = (
            [None if v is UNKNOWN else v for v in as_of(table.shape, shapes[r.shape], r.row).values()]
            for r in rows
            for _ in range(r.times)
        )
        self.database.executemany(f"INSERT INTO {quoted(table.bare)} VALUES ({marks})", written)

    def holds(self, sql: str) -> bool:
        try:
            row = self.database.execute(sql).fetchone()
        except sqlite3.Error as error:
            raise HistoryError(f"the query cannot be run on tables as they were: {error}") from None
        return bool(row and row[0])


class _OnPostgreSQL(Copy):
    """Temporary tables in the snapshot's transaction, which is rolled back; nothing else can be written or seen."""

    def __init__(self, images: Images, tables: Sequence[Recorded]) -> None:
        super().__init__(tables)
        self._cursor: Any = driver_connection(images.connection).cursor()
        for each in tables:
            columns = ", ".join(f"{quoted(c)} {t}" for c, t in zip(each.shape.columns, each.shape.types, strict=True))
            self._cursor.execute(f"CREATE TEMPORARY TABLE {quoted(each.bare)} ({columns}) ON COMMIT DROP")
        self._cursor.execute("SET LOCAL transaction_read_only = on; SET LOCAL search_path = pg_temp, pg_catalog")

    def fill(self, name: str, rows: Sequence[Residual], values_of: ValuesOf) -> None:
        table = self._tables[name]
        own = f"pg_temp.{quoted(table.bare)}"
        shapes = {each.shape: each for each in table.shapes}
        places = {number: dict(common(table.shape, each)) for number, each in shapes.items()}
        texts = []
        for row in rows:
            text = row.row
            if row.shape != table.shape.shape:
                fields, there = fields_of(text), places[row.shape]
                text = row_text([fields[there[n]] if n in there else None for n in range(len(table.shape.columns))])
            texts += [text] * row.times
        self._cursor.execute(f"DELETE FROM {own}".replace("%", "%%"))
        insert = (
            f"INSERT INTO {own} SELECT (r.held).* FROM (SELECT t::{own} AS held FROM unnest(?::text[]) t OFFSET 0) r"
        )
        self._cursor.execute(insert.replace("%", "%%").replace("?", "%s"), (texts,))

    def holds(self, sql: str) -> bool:
        driver = self._cursor.connection
        try:
            self._cursor.execute(sql)
            row = self._cursor.fetchone()
        except driver.Error as error:
            told = str(error).splitlines()[0]
            raise HistoryError(f"the query cannot be run on tables as they were: {told}") from None
        return bool(row and row[0])


@contextmanager
def copy_of(images: Images, tables: Sequence[Recorded]) -> Iterator[Copy]:
    """Empty copies of these tables, in the database's own kind."""
    if images.connection.dialect.name == "postgresql":
        yield _OnPostgreSQL(images, tables)
        return
    copy = _OnSQLite(tables)
    try:
        yield copy
    finally:
        copy.database.close()


def first_true(positions: Sequence[int], good: int, check: Callable[[int], bool]) -> tuple[int | None, int, str]:
    """The first of ascending positions at which `check` holds, how often it was asked, and what to know of it."""
    if check(good):
        raise HistoryError(f"it holds at position {good} already; begin with an earlier one")
    if not positions:
        return None, 1, "nothing was changed in this range"
    if not check(positions[-1]):
        return None, 2, "it does not hold at the end; if it came and went, end earlier"
    low, high, checks = -1, len(positions) - 1, 2
    while high - low > 1:
        middle = (low + high) // 2
        checks += 1
        low, high = (low, middle) if check(positions[middle]) else (middle, high)
    return positions[high], checks, ""
