"""Gives sandbox INSERTs the values that the database, or a column default, generated when history was made.

The journal keeps, for each inserted row, what was generated and a digest of all values. An INSERT of the re-run gets
the generated values of the recorded row whose digest it would then have; failing that, of the next one of its table;
failing that, an integer key from a range that history never used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Insert, Integer, SmallInteger, Table

from actionbus.core.gateway.row_recorder import digest
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.values import tagged

if TYPE_CHECKING:
    from actionbus.replay.history import Entry

Params = Sequence[Mapping[str, Any]]
_FRESH = ((SmallInteger, 30_000), (BigInteger, 1 << 62), (Integer, 2_000_000_000))


class Fresh:
    """Keys that history never used, for a sandbox as long as it lives."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def copy(self) -> Fresh:
        """The same from here on."""
        made = Fresh()
        made._next = dict(self._next)
        return made

    def key(self, column: Column[Any]) -> int:
        """The next one for a column."""
        name = f"{column.table}.{column.key}"
        first = next(number for kind, number in _FRESH if isinstance(column.type, kind))
        self._next[name] = self._next.get(name, first - 1) + 1
        return self._next[name]


class Generated:
    """What one action, with those nested in it, generated."""

    def __init__(self, entry: Entry, fresh: Fresh, scrubber: Scrubber) -> None:
        self._fresh = fresh
        self._scrubber = scrubber
        self._rows: dict[str, list[dict[str, Any]]] = {}
        for row in entry.touched():
            if "generated" in row and row["op"] in ("insert", "upsert"):
                self._rows.setdefault(row["table"], []).append(row)

    def impose(self, statement: Insert, many: Params) -> tuple[Insert, Params]:
        """The INSERT with its values."""
        table = statement.table
        if not isinstance(table, Table) or statement.select is not None:
            return statement, many
        if not self._rows.get(table.fullname) and _fresh_column(table) is None:
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
        """What to add to a row's values."""
        if (row := self._take(table, values)) is not None:
            return {name: value for name, value in row.items() if name not in given and name in table.c}
        column = _fresh_column(table)
        if column is None or column.key in given:
            return {}
        return {column.key: self._fresh.key(column)}

    def _take(self, table: Table, values: Mapping[str, Any]) -> dict[str, Any] | None:
        rows = self._rows.get(table.fullname)
        if not rows:
            return None
        made = [{name: tagged.decode(value) for name, value in row["generated"].items()} for row in rows]
        chosen = 0
        for number, (row, generated) in enumerate(zip(rows, made, strict=True)):
            whole = {name: value for name, value in values.items() if name in table.c} | generated
            if digest(whole, self._scrubber) == row.get("digest"):
                chosen = number
                break
            if len(rows) == 1:
                break
        rows.pop(chosen)
        return made[chosen]


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
