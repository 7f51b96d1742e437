"""Gives sandbox INSERTs the values that the database, or a column's callable default, generated in history.

The recorded images hold whole rows. An INSERT of the re-run gets what it leaves to be generated from the recorded row
of its table with which most of its own values agree, each recorded row once; where there is none left, an integer key
from a range that history never used. What SQLAlchemy does not write, raw SQL, gets its keys from the sequences, which
are set to where they stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, Insert, Integer, SmallInteger, Table

from actionbus.core.storage.backend import quoted
from actionbus.core.storage.drivers import driver_connection
from actionbus.replay.nets import Held, Net
from actionbus.replay.tables import Tables

Params = Sequence[Mapping[str, Any]]
_FRESH: Final = ((SmallInteger, 30_000), (BigInteger, 1 << 62), (Integer, 2_000_000_000))
_LOOKED_AT: Final = 200
"""Of the recorded rows of a table, how many are compared with one that is inserted."""


class Fresh:
    """Keys that history never used, for a sandbox as long as it lives."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def key(self, column: Column[Any]) -> int:
        """The next one for a column."""
        name = f"{column.table}.{column.key}"
        first = next(number for kind, number in _FRESH if isinstance(column.type, kind))
        self._next[name] = self._next.get(name, first - 1) + 1
        return self._next[name]


class Generated:
    """What one action, with those nested in it, generated.

    `recorded` is what history has of its rows; `told` are such rows as a test tells them, by table, in Python's values.
    """

    def __init__(
        self, recorded: Sequence[Net], tables: Tables, fresh: Fresh, told: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> None:
        self._fresh = fresh
        self._tables = tables
        self._rows: dict[str, list[Held | Mapping[str, Any]]] = {name: list(rows) for name, rows in told.items()}
        for net in recorded:
            if net.after is not None and net.before is None:
                self._rows.setdefault(net.table, []).append(net.after)

    def impose(self, statement: Insert, many: Params) -> tuple[Insert, Params]:
        """The INSERT with its values."""
        table = statement.table
        if not isinstance(table, Table) or statement.select is not None:
            return statement, many
        if not self._rows.get(self._tables.name_of(table)) and _fresh_column(table) is None:
            return statement, many
        if statement._multi_values:
            return self._multi(statement, table), many
        set_values: Any = dict(statement._values or {})
        given = {_key(name) for name in set_values}
        fixed = {_key(name): getattr(value, "value", None) for name, value in set_values.items()}
        if not many:
            made = self._values(table, fixed, given)
            return (statement.values(made) if made else statement), many
        filled = [{**params, **self._values(table, {**fixed, **params}, given | set(params))} for params in many]
        return statement, _even(filled)

    def _multi(self, statement: Insert, table: Table) -> Insert:
        multi: Any = statement._multi_values
        rows = [{_key(name): value for name, value in row.items()} for rows in multi for row in rows]
        plain = [{name: getattr(value, "value", value) for name, value in row.items()} for row in rows]
        filled = [{**row, **self._values(table, row, set(row))} for row in plain]
        fresh = statement._generate()
        fresh._multi_values = ()
        return fresh.values(_even(filled))

    def _values(self, table: Table, values: Mapping[str, Any], given: set[str]) -> dict[str, Any]:
        """What to add to a row's values, by the columns' keys."""
        if (row := self._take(table, values)) is not None:
            return {
                column.key: row[column.name]
                for column in table.columns
                if column.key not in given and column.name in row and _is_generated(column)
            }
        column = _fresh_column(table)
        if column is None or column.key in given:
            return {}
        return {column.key: self._fresh.key(column)}

    def _python(self, table: Table, row: Held | Mapping[str, Any]) -> Mapping[str, Any]:
        return self._tables.python(table, row) if isinstance(row, Held) else row

    def _take(self, table: Table, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
        rows = self._rows.get(self._tables.name_of(table))
        if not rows:
            return None
        best, most = 0, -1
        for number, held in enumerate(rows[:_LOOKED_AT]):
            row = self._python(table, held)
            agreeing = sum(
                _agree(row.get(table.c[name].name), value) for name, value in values.items() if name in table.c
            )
            if agreeing > most:
                best, most = number, agreeing
            if agreeing == len(values):
                break
        return self._python(table, rows.pop(best))


def _agree(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # values of an application's own types
        return False


def _is_generated(column: Column[Any]) -> bool:
    """Whether its value may be another each time; a constant default is the code's, and is compared."""
    if column.computed is not None:
        return False
    if column.default is not None and not column.default.is_scalar:
        return True
    if column.identity is not None or column.table.autoincrement_column is column:
        return True
    default = str(getattr(column.server_default, "arg", "") or "")
    return "(" in default or "CURRENT_" in default.upper()


def is_generating(table: Table) -> bool:
    """Whether any of a table's columns is generated."""
    return any(map(_is_generated, table.columns))


def _even(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter sets must name the same columns: what not all of them have stays the database's to make."""
    common = set.intersection(*(set(row) for row in rows)) if rows else set()
    return [{name: value for name, value in row.items() if name in common} for row in rows]


def _fresh_column(table: Table) -> Column[Any] | None:
    column = table.autoincrement_column
    if column is None or not isinstance(column.type, Integer) or column.default is not None:
        return None
    return column


def _key(name: Any) -> str:
    return name if isinstance(name, str) else str(name.key)


class Sequences:
    """The sequences of the tables' columns, for statements that SQLAlchemy does not write. PostgreSQL."""

    def __init__(self, connection: Connection, tables: Tables) -> None:
        self._connection = connection
        self._owned: dict[str, tuple[str, str]] = {}
        """By table: the column, and its sequence as SQL names it."""
        if connection.dialect.name == "postgresql":
            for name in tables.shapes:
                self._find(name)

    def _find(self, table: str) -> None:
        rows = self._execute(
            "SELECT a.attname, pg_get_serial_sequence(%s::regclass::text, a.attname) FROM pg_attribute a "
            "WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped",
            (Tables.qualified(table),) * 2,
        )
        for column, sequence in rows:
            if sequence is not None:
                self._owned[table] = column, sequence

    def stand_before(self, recorded: Sequence[Net]) -> None:
        """Have the sequences give the keys that these rows have."""
        first: dict[str, int] = {}
        for net in recorded:
            if net.table in self._owned and net.before is None and net.after is not None:
                value = net.after.fields().get(self._owned[net.table][0])
                if value is not None:
                    first[net.table] = min(int(value), first.get(net.table, int(value)))
        for table, number in first.items():
            self._execute("SELECT setval(%s::regclass, %s, false)", (self._owned[table][1], max(1, number)))

    def go_on(self) -> None:
        """Have the sequences give what the tables do not hold yet."""
        for table, (column, sequence) in self._owned.items():
            name, home = quoted(column).replace("%", "%%"), Tables.qualified(table).replace("%", "%%")
            last = f"SELECT max({name}) AS last FROM {home}"
            self._execute(
                f"SELECT setval(%s::regclass, greatest(last, 1)) FROM ({last}) t WHERE last IS NOT NULL", (sequence,)
            )

    def _execute(self, statement: str, values: Sequence[Any]) -> list[Any]:
        cursor = driver_connection(self._connection).cursor()
        cursor.execute(statement, values)
        return list(cursor.fetchall())
