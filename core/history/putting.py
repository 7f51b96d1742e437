"""Reads rows of the application's tables as images have them, and puts them back, key by key. Used by `reverting`.

Past the application's models, which may be others by now, and by no other way than anybody's: its constraints are
checked, its triggers fire.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from actionbus.core.history.decoding import fields_of
from actionbus.core.history.shapes import Shape
from actionbus.core.history.sqlite_texts import BrokenText, bound
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.names import quoted

Values = Mapping[str, Any]
_MARK: Final = "\0"
"""Stands for a value: no name has it."""


class Rows(ABC):
    """The rows of a transaction that is open. Values are as `undoing.Stored` has them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @abstractmethod
    def is_there(self, table: str) -> bool:
        """Whether there is such a table."""

    @abstractmethod
    def columns(self, table: str) -> frozenset[str]:
        """The columns that it has now."""

    @abstractmethod
    def computed(self, table: str) -> frozenset[str]:
        """The columns that the database computes."""

    def current(self, shape: Shape, key: Values) -> dict[str, Any] | None:
        """The row as it is, and nobody else may change it until the transaction ends; None if there is none."""
        where, values = self._by_key(shape, key)
        rows = self._rows(f"SELECT {self._row(shape)} FROM {self._name(shape)} WHERE {where}{self._locking}", values)
        return dict(zip(shape.columns, self._read(rows[0]), strict=True)) if rows else None

    def update(self, shape: Shape, key: Values, values: Values) -> int:
        """Give a row's columns these values; how many rows that were."""
        given = ", ".join(f"{quoted(name)} = {self._mark(shape, name, value)}" for name, value in values.items())
        where, keys = self._by_key(shape, key)
        return self._run(f"UPDATE {self._name(shape)} SET {given} WHERE {where}", [*values.values(), *keys])

    def delete(self, shape: Shape, row: Values) -> int:
        """Remove a row: the one with its key, or one that is the same in all columns."""
        where, values = self._by_key(shape, row) if shape.key else self._alike(shape, row)
        return self._run(f"DELETE FROM {self._name(shape)} WHERE {where}", values)

    def insert(self, shape: Shape, values: Values) -> int:
        """Put a row back that was removed."""
        names = ", ".join(map(quoted, values))
        marks = ", ".join(self._mark(shape, name, value) for name, value in values.items())
        told = f"({names}) {self._overriding}VALUES ({marks})" if values else "DEFAULT VALUES"
        return self._run(f"INSERT INTO {self._name(shape)} {told}", list(values.values()))

    def _by_key(self, shape: Shape, row: Values) -> tuple[str, list[Any]]:
        where = " AND ".join(f"{quoted(name)} = {self._mark(shape, name, row[name])}" for name in shape.key)
        return where, [row[name] for name in shape.key]

    _locking = ""
    _overriding = ""

    @abstractmethod
    def _row(self, shape: Shape) -> str:
        """What is selected of a row."""

    @abstractmethod
    def _read(self, row: Sequence[Any]) -> Sequence[Any]:
        """The fields of a row as `_row` selected it."""

    @abstractmethod
    def _alike(self, shape: Shape, row: Values) -> tuple[str, list[Any]]:
        """What chooses one of the rows that are the same in all columns."""

    @abstractmethod
    def _mark(self, shape: Shape, column: str, value: Any) -> str:
        """What stands for a value in a statement."""

    def _name(self, shape: Shape) -> str:
        return _quoted_name(shape.table_name)

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Sequence[Any]]:
        cursor = self._execute(sql, values)
        return list(cursor.fetchall())

    def _run(self, sql: str, values: Sequence[Any]) -> int:
        return int(self._execute(sql, values).rowcount)

    @abstractmethod
    def _execute(self, sql: str, values: Sequence[Any]) -> Any:
        """Run a statement in which `_MARK` stands for a value."""


class PostgreSQLRows(Rows):
    """Values are texts, cast to their columns' types."""

    _locking = " FOR UPDATE"
    _overriding = "OVERRIDING SYSTEM VALUE "

    def is_there(self, table: str) -> bool:
        return bool(self._rows("SELECT to_regclass(\0) IS NOT NULL", [_quoted_name(table)])[0][0])

    def columns(self, table: str) -> frozenset[str]:
        return self._columns(table, "attnum > 0 AND NOT attisdropped")

    def computed(self, table: str) -> frozenset[str]:
        return self._columns(table, "attgenerated <> ''")

    def _columns(self, table: str, condition: str) -> frozenset[str]:
        sql = f"SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(\0) AND {condition}"
        return frozenset(each for (each,) in self._rows(sql, [_quoted_name(table)]))

    def _row(self, shape: Shape) -> str:
        return f"ROW({', '.join(map(quoted, shape.columns))})::text"

    def _read(self, row: Sequence[Any]) -> Sequence[Any]:
        return fields_of(row[0])

    def _alike(self, shape: Shape, row: Values) -> tuple[str, list[Any]]:
        same = " AND ".join(
            f"(ROW({quoted(name)})::text = ROW({self._mark(shape, name, value)})::text)" for name, value in row.items()
        )
        name = self._name(shape)
        one = f"SELECT tableoid, ctid FROM {name} WHERE {same} LIMIT 1 FOR UPDATE"
        return f"(tableoid, ctid) = ({one})", list(row.values())

    def _mark(self, shape: Shape, column: str, value: Any) -> str:
        return f"CAST(CAST({_MARK} AS text) AS {shape.types[shape.columns.index(column)]})"

    def _execute(self, sql: str, values: Sequence[Any]) -> Any:
        cursor = driver_connection(self._connection).cursor()
        cursor.execute(sql.replace("%", "%%").replace(_MARK, "%s"), tuple(values))
        return cursor


class SQLiteRows(Rows):
    """Values are what is stored."""

    def is_there(self, table: str) -> bool:
        sql = "SELECT count(*) FROM main.sqlite_master WHERE type = 'table' AND lower(name) = lower(\0)"
        return bool(self._rows(sql, [table])[0][0])

    def columns(self, table: str) -> frozenset[str]:
        return self._columns(table, "true")

    def computed(self, table: str) -> frozenset[str]:
        return self._columns(table, "hidden IN (2, 3)")

    def _columns(self, table: str, condition: str) -> frozenset[str]:
        rows = self._rows(f"SELECT name FROM pragma_table_xinfo(\0) WHERE {condition}", [table])
        return frozenset(each for (each,) in rows)

    def _name(self, shape: Shape) -> str:
        return f"main.{quoted(shape.table_name)}"

    def _row(self, shape: Shape) -> str:
        return ", ".join(map(quoted, shape.columns))

    def _read(self, row: Sequence[Any]) -> Sequence[Any]:
        return row

    def _alike(self, shape: Shape, row: Values) -> tuple[str, list[Any]]:
        same = " AND ".join(f"{quoted(name)} IS {self._mark(shape, name, value)}" for name, value in row.items())
        return f"rowid = (SELECT rowid FROM {self._name(shape)} WHERE {same} LIMIT 1)", list(row.values())

    def _mark(self, shape: Shape, column: str, value: Any) -> str:
        return f"CAST({_MARK} AS TEXT)" if isinstance(bound(value), BrokenText) else _MARK

    def _execute(self, sql: str, values: Sequence[Any]) -> Any:
        return driver_connection(self._connection).execute(sql.replace(_MARK, "?"), [bound(each) for each in values])


def _quoted_name(table: str) -> str:
    """That of a table, with its schema if it says one."""
    return ".".join(quoted(part) for part in table.split(".", 1))


def rows_of(connection: Connection) -> Rows:
    """The rows of the transaction that is open on a connection."""
    return (PostgreSQLRows if connection.dialect.name == "postgresql" else SQLiteRows)(connection)
