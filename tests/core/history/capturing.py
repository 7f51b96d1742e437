"""A PostgreSQL database with a journal, and what the images of its tables add up to. Used by tests of capturing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from actionbus import Bus
from actionbus.core.history.install import install, status
from actionbus.core.history.shapes import TableStatus, TableWanted
from actionbus.core.storage.ddl import verbatim

TABLE = "CREATE TABLE things (id int PRIMARY KEY, v text)"


class Captured:
    """Runs SQL as an outsider does, and reads the images."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    def run(self, *statements: str) -> None:
        """Statements in one transaction, past the gateway."""
        with self.bus.engine.begin() as connection:
            for each in statements:
                connection.execute(verbatim(each))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with self.bus.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    def install(self, *tables: str | TableWanted, baseline: bool = False) -> list[str]:
        """Put triggers on tables."""
        wanted = [TableWanted(each) if isinstance(each, str) else each for each in tables]
        with self.bus.engine.begin() as connection:
            return install(self.bus.backend, connection, wanted, baseline=baseline)

    def status(self, *tables: str) -> list[TableStatus]:
        """How far tables are recorded; without names all that have a history."""
        with self.bus.engine.begin() as connection:
            return status(self.bus.backend, connection, [TableWanted(each) for each in tables] or None)

    def images(self, columns: str = "operation, key, before, after") -> list[tuple[Any, ...]]:
        """All images, oldest first."""
        return self.rows(f"SELECT {columns} FROM actionbus_images ORDER BY image")

    def operations(self) -> str:
        """Of all images, in their order."""
        return "".join(operation for (operation,) in self.images("operation"))

    def folded(self, table: str) -> Counter[str]:
        """The rows that a table's images add up to, since its baseline."""
        found = self.rows(
            "SELECT i.before, i.after FROM actionbus_images i JOIN actionbus_shapes s USING (shape) "
            f"WHERE s.table_name = 'public.{table}' AND i.image > (SELECT max(since_image) FROM actionbus_shapes "
            f"WHERE table_name = 'public.{table}' AND is_baseline)"
        )
        total: Counter[str] = Counter()
        for before, after in found:
            total.update([after] if after is not None else [])
            total.subtract([before] if before is not None else [])
        return Counter({row: number for row, number in total.items() if number})

    def actual(self, table: str, columns: Sequence[str] = (), *, only: bool = False) -> Counter[str]:
        """The rows that stand there."""
        row = f"ROW({', '.join(columns)})::text" if columns else "ROW(t.*)::text"
        found = self.rows(f"SELECT {row} FROM {'ONLY ' if only else ''}{table} t")
        return Counter(row for (row,) in found)

    def bypasses(self) -> list[tuple[Any, ...]]:
        """The journal's records of writes past the gateway, but for those that the installer made."""
        return self.rows(
            "SELECT context, images_upto, xid FROM journal WHERE kind = 'bypass' "
            "AND context::jsonb -> 'baseline' IS NULL ORDER BY position"
        )


HOSTILE = (
    "SET actionbus.action = 'no uuid'; SET TimeZone = 'America/New_York'; SET DateStyle = 'SQL, DMY'; "
    "SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape'; SET extra_float_digits = -15; SET xmloption = document"
)
