"""Gives sandbox INSERTs the values that the database, or a column's callable default, generated in history.

The recorded images hold whole rows. Each row that SQLAlchemy inserts is matched with the recorded row of its table that
agrees with it, in their order; what the INSERT leaves to be generated is taken from there. A recorded row can be taken
as long as no row has its key, so that what was rolled back, or conflicted, takes nothing away. Where none is left, an
integer key comes from a range that history never used. What SQLAlchemy does not write: see `replay.sandbox.keys`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Insert, Integer, Table, bindparam, literal
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.types import NullType

from actionbus.replay.past.nets import HeldRow, Net
from actionbus.replay.sandbox import sqlalchemy_inside as inside
from actionbus.replay.sandbox.keys import Fresh
from actionbus.replay.sandbox.tables import Tables

Params = Sequence[Mapping[str, Any]]
Row = Mapping[str, Any]
_LOOKED_AT: Final = 200
"""Of the recorded rows of a table, how many are compared with one that is inserted."""
_CHANCE: Final = re.compile(
    r"\b(random\w*|gen_random_\w+|uuid_?generate\w*|uuidv?[47]|nextval|newid|setseed)\s*\(", re.IGNORECASE
)
_CLOCK: Final = re.compile(r"\bcurrent_(timestamp|date|time)\b|\blocaltime|\b\w*(now|timestamp)\s*\(", re.IGNORECASE)


class GeneratedValues:
    """What one action, with those nested in it, generated.

    `recorded` is what history has of its rows; `told` are such rows as a test tells them, by table, in Python's values.
    """

    def __init__(
        self, recorded: Sequence[Net], tables: Tables, fresh: Fresh, told: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> None:
        self._fresh = fresh
        self._tables = tables
        self._rows: dict[str, list[HeldRow | Row]] = {name: list(rows) for name, rows in told.items()}
        self._matched: list[_RecordedRow | None] = []
        """For each row of the INSERT under way, the recorded one."""
        for net in recorded:
            if net.after is not None and net.before is None:
                self._rows.setdefault(net.table, []).append(net.after)

    def impose(self, statement: Insert, many: Params) -> tuple[Insert, Params]:
        """The INSERT with its values."""
        table = statement.table
        self._matched = []
        if not isinstance(table, Table) or statement.select is not None:
            return statement, many
        if not self._rows.get(self._tables.name_of(table)) and _fresh_column(table) is None:
            return statement, many
        if rows := inside.rows_of(statement):
            return self._impose_rows(statement, table, rows), many
        fixed = inside.single_of(statement)
        inserted = [{**fixed, **params} for params in many] or [fixed]
        self._matched = self._match(table, inserted, only_exact=inside.may_conflict(statement))
        made = _even([self._made(table, *pair) for pair in zip(inserted, self._matched, strict=True)])
        asked = {name: self._type(table.c[name]) for name in made[0] if not table.c[name].primary_key}
        if not many:
            values = {name: self._literal(table.c[name], value) for name, value in made[0].items()}
            return inside.with_values(statement, values), many
        computed = {name: inside.computed(bindparam(_given(name), type_=kind)) for name, kind in asked.items()}
        statement = inside.with_values(statement, computed)
        filled = [
            {
                **{name: value for name, value in params.items() if name not in asked},
                **{_given(name) if name in asked else name: value for name, value in each.items()},
            }
            for params, each in zip(many, made, strict=True)
        ]
        return statement, filled

    def _impose_rows(self, statement: Insert, table: Table, rows: Sequence[Row]) -> Insert:
        """In an INSERT of several rows, of which nobody asks back what a default has made, all are values."""
        found = self._match(table, rows, only_exact=inside.may_conflict(statement))
        made = []
        for row, recorded in zip(rows, found, strict=True):
            given = self._made(table, row, recorded)
            asked = {name: self._literal(table.c[name], value) for name, value in given.items()}
            made.append(asked | _of_callables(table, row, recorded))
        return inside.with_rows(statement, [{**row, **each} for row, each in zip(rows, _even(made), strict=True)])

    def _literal(self, column: Column[Any], value: Any) -> Any:
        return value if column.primary_key else inside.computed(literal(value, self._type(column)))

    def _type(self, column: Column[Any]) -> Any:
        """How to hand over what the database made: where it was recorded as it was stored, as that."""
        return NullType() if self._tables.keeps_stored else column.type

    def impose_defaults(self, context: DefaultExecutionContext) -> None:
        """Put recorded values in place of those that columns' callables have just made."""
        for column, name in inside.made_of_inserts(context):
            for params, row in zip(context.compiled_parameters, self._matched, strict=False):
                if row is not None and column.name in row.python:
                    params[name] = _in_form_of(params.get(name), row.python[column.name])

    def _made(self, table: Table, values: Row, recorded: _RecordedRow | None) -> dict[str, Any]:
        """What to add to a row's values, by the columns' keys: keys in Python's values, and what the database made."""
        if recorded is not None:
            return {
                column.key: (recorded.python if column.primary_key else recorded.stored)[column.name]
                for column in table.columns
                if column.name in recorded.python
                and (_is_made_anew(values[column.key]) if column.key in values else _is_made_by_database(column))
            }
        column = _fresh_column(table)
        return {column.key: self._fresh_key(table, column)} if column is not None and column.key not in values else {}

    def _fresh_key(self, table: Table, column: Column[Any]) -> int:
        """One that not even a row has which got its key from the database, after the last one."""
        name = self._tables.name_of(table)
        while self._tables.there(name, column.name, [key := self._fresh.key(column)]):
            pass
        return key

    def _match(self, table: Table, inserted: Sequence[Row], *, only_exact: bool) -> list[_RecordedRow | None]:
        """For each of these rows the recorded one: first those that agree in all, then those that agree in most."""
        left: list[_RecordedRow | None] = list(self._left(table))
        found: list[_RecordedRow | None] = [None] * len(inserted)
        told = [_told(table, values) for values in inserted]
        first = 0
        for number, values in enumerate(told):
            place = next((n for n in _near(left, first) if _agreeing(left[n], values) == len(values)), None)
            if place is not None:
                found[number], left[place] = left[place], None
            while first < len(left) and left[first] is None:
                first += 1
        if only_exact:
            return found
        for number, values in enumerate(told):
            if found[number] is None and (near := list(_near(left, first))):
                place = max(near, key=lambda n: _agreeing(left[n], values))
                found[number], left[place] = left[place], None
        return found

    def _left(self, table: Table) -> list[_RecordedRow]:
        """The recorded rows whose keys no row has."""
        name = self._tables.name_of(table)
        rows = [self._recorded(table, row) for row in self._rows.get(name, ())]
        key = _fresh_column(table)
        if key is None or not rows:
            return rows
        there = self._tables.there(name, key.name, [row.python.get(key.name) for row in rows])
        return [row for row in rows if row.python.get(key.name) not in there]

    def _recorded(self, table: Table, row: HeldRow | Row) -> _RecordedRow:
        if not isinstance(row, HeldRow):
            return _RecordedRow(row, row)
        python = self._tables.python(table, row)
        return _RecordedRow(python, row.values() if self._tables.keeps_stored else python)


class _RecordedRow(NamedTuple):
    """A recorded row as Python has it, and as the database does, where that is recorded."""

    python: Row
    stored: Row


def _near(left: Sequence[_RecordedRow | None], first: int) -> Iterable[int]:
    return (n for n in range(first, min(first + _LOOKED_AT, len(left))) if left[n] is not None)


def _told(table: Table, values: Row) -> dict[str, Any]:
    """Of a row's values those that are known before the database is asked, by the columns' names."""
    return {
        table.c[key].name: inside.plain(value)
        for key, value in values.items()
        if key in table.c and not inside.is_expression(value)
    }


def _agreeing(row: _RecordedRow | None, values: Row) -> int:
    return -1 if row is None else sum(_agree(row.python.get(name), value) for name, value in values.items())


def _agree(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # values of an application's own types
        return False


def _is_made_anew(value: Any) -> bool:
    """Whether an INSERT's own value is something that the database makes anew each time."""
    return inside.is_expression(value) and bool(_CHANCE.search(text := str(value)) or _CLOCK.search(text))


def _is_made_by_database(column: Column[Any]) -> bool:
    """Whether its value may be another each time; a constant default is the code's, and is compared."""
    if column.computed is not None:
        return False
    if column.default is not None:
        return bool(column.default.is_clause_element or column.default.is_sequence)
    if column.identity is not None or column.table.autoincrement_column is column:
        return True
    given = getattr(column.server_default, "arg", None)
    default = "" if given is None else str(given)
    return "(" in default or "CURRENT_" in default.upper()


def _is_made_by_callable(column: Column[Any]) -> bool:
    return column.default is not None and column.default.is_callable


def _of_callables(table: Table, values: Row, recorded: _RecordedRow | None) -> dict[str, Any]:
    return {
        column.key: recorded.python[column.name]
        for column in table.columns
        if recorded is not None
        and column.name in recorded.python
        and column.key not in values
        and _is_made_by_callable(column)
    }


def is_generating(table: Table) -> bool:
    """Whether any of a table's columns is generated."""
    return any(_is_made_by_database(column) or _is_made_by_callable(column) for column in table.columns)


def _given(name: str) -> str:
    """The name of a parameter that is no column's."""
    return f"actionbus_{name}"


def _in_form_of(made: Any, recorded: Any) -> Any:
    """A recorded value as the column's callable would have given it: the same value, or a time with its zone."""
    if _agree(made, recorded):
        return made
    if isinstance(made, datetime) and isinstance(recorded, datetime) and made.tzinfo and not recorded.tzinfo:
        return recorded.replace(tzinfo=made.tzinfo)
    return recorded


def _even(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter sets must name the same columns: what not all of them have stays the database's to make."""
    common = set.intersection(*(set(row) for row in rows)) if rows else set()
    return [{name: value for name, value in row.items() if name in common} for row in rows]


def _fresh_column(table: Table) -> Column[Any] | None:
    column = table.autoincrement_column
    if column is None or not isinstance(column.type, Integer) or column.default is not None:
        return None
    return column
