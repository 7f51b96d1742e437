"""A sandbox's tables on SQLite. See `replay.sandbox.tables`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Table

from actionbus.core.storage.names import quoted
from actionbus.replay.sandbox.tables import OURS, Layout, Row, Tables


class SQLiteTables(Tables):
    """Values are what was stored."""

    keeps_stored = True
    _parameter = "?"

    def name_of(self, table: Table) -> str:
        return table.name

    def qualified(self, name: str) -> str:
        return quoted(name)

    @contextmanager
    def unhindered(self) -> Iterator[None]:
        """Foreign keys are only switched between transactions; triggers are taken down, and put up again."""
        cursor = self._cursor()
        cursor.execute("COMMIT")
        cursor.execute("PRAGMA foreign_keys")
        (has_keys,) = cursor.fetchone()
        cursor.execute("PRAGMA foreign_keys=OFF")
        cursor.execute("BEGIN")
        try:
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND instr(name, ?) = 0", (OURS,))
            triggers = cursor.fetchall()
            for name, _ in triggers:
                cursor.execute(f"DROP TRIGGER {quoted(name)}")
            yield
            for _, sql in triggers:
                cursor.execute(sql)
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        finally:
            cursor.execute(f"PRAGMA foreign_keys={'ON' if has_keys else 'OFF'}")
            cursor.execute("BEGIN")

    @contextmanager
    def laid_out(self, tables: Sequence[str], layout: Layout | None) -> Iterator[bool]:
        """Rows lie in the order of their numbers, which may be their keys: they can only be gone through backwards."""
        if layout is not None:
            yield False
            return
        self._cursor().execute("PRAGMA reverse_unordered_selects=ON")
        try:
            yield True
        finally:
            self._cursor().execute("PRAGMA reverse_unordered_selects=OFF")

    def _insert_alike(self, name: str, rows: Sequence[Row]) -> None:
        columns = list(rows[0])
        names = ", ".join(map(quoted, columns))
        marks = ", ".join("?" * len(columns))
        told = f"({names}) VALUES ({marks})" if columns else "DEFAULT VALUES"
        self._cursor().executemany(
            f"INSERT INTO {self.qualified(name)} {told}", [tuple(row[each] for each in columns) for row in rows]
        )

    def _alike(self, table: str, values: Row) -> tuple[str, tuple[Any, ...]]:
        same = " AND ".join(f"{quoted(name)} IS ?" for name in values) or "1"
        return f"rowid = (SELECT rowid FROM {self.qualified(table)} WHERE {same} LIMIT 1)", tuple(values.values())

    def _mark(self, table: str, column: str) -> str:
        return "?"

    def _run(self, statement: str, values: Sequence[Any]) -> int:
        cursor = self._cursor()
        cursor.execute(statement, tuple(values))
        return int(cursor.rowcount)
