"""A sandbox's business tables, into which recorded rows are put past triggers and constraints. Used by the sandbox.

A recorded row has the columns of its time. Those that the table has no longer are left out; those that it has since, or
that are withheld, get their default, or a stand-in where they need a value and have none. What was erased is NULL, or a
stand-in too where it must be something.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Float,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    inspect,
)
from sqlalchemy.types import TypeEngine

from actionbus.core import Application
from actionbus.core.history.decoding import ErasedValue, has_erased
from actionbus.core.history.shapes import Shape
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.names import quoted
from actionbus.replay.past.nets import HeldRow, Net
from actionbus.replay.sandbox.standins import StandInValue, holds_default, values_needed

_BATCH: Final = 1_000
_OTHERS: Final = ("journal", "alembic_version")
OURS: Final = "actionbus_"
_FLOAT: Final = 701
_NUMERIC: Final = 1700
_JSON: Final = ("json", "jsonb")
Row = Mapping[str, Any]
Layout = Callable[[str, Sequence[Row]], list[int]]
"""Given a table and its rows as they lie, as the database writes them: their numbers in another order."""
MOST_LAID_OUT: Final = 20_000
"""Rows; a larger table is left as it lies."""


def business_tables(application: Application, connection: Connection) -> list[Table]:
    """Those of its models, or all there are but the journal's and Alembic's; those that others refer to first."""
    models = application.models
    if models is None or not models.tables:
        models = MetaData()
        names = inspect(connection).get_table_names()
        theirs = [name for name in names if name not in _OTHERS and not name.startswith(OURS)]
        if theirs:
            models.reflect(connection, only=theirs)
    return list(models.sorted_tables)


def is_checked_late(table: Table) -> bool:
    """Whether any of its constraints waits for COMMIT."""
    return any(getattr(each, "initially", None) == "DEFERRED" for each in table.constraints)


class Tables(ABC):
    """The tables by the names that their shapes have. What is put there fires nothing and is checked by nothing."""

    keeps_stored: bool
    """Whether what was recorded of a row is what the driver gives, and takes."""
    _parameter: str
    """What stands for a value in a driver's statement."""

    def __init__(self, connection: Connection, shapes: Mapping[str, Shape], tables: Sequence[Table]) -> None:
        self._connection = connection
        self.shapes = shapes
        self.models = {self.name_of(each): each for each in tables}
        self._computed = {name: _computed(connection, each) for name, each in self.models.items()}
        self._needed: dict[str, dict[str, StandInValue]] = {}
        self._readers: dict[str, dict[str, Any]] = {}
        self._count = 0
        self.unique = {name: _unique(each) for name, each in self.models.items()}
        """By table, the columns of which a row may meet another one when they are written: those of what is unique."""
        self.erased: dict[str, set[str]] = {}
        """By table, the columns in which something else stands for values that were erased."""

    @abstractmethod
    def name_of(self, table: Table) -> str:
        """A table's name as its shape has it."""

    @abstractmethod
    def qualified(self, name: str) -> str:
        """Such a name in SQL."""

    def python(self, table: Table, held: HeldRow) -> dict[str, Any]:
        """A recorded row as SQLAlchemy's types give it, of the columns that the table has."""
        readers = self._readers.get(table.key)
        if readers is None:
            dialect = self._connection.dialect
            readers = self._readers[table.key] = {
                column.name: column.type.dialect_impl(dialect).result_processor(dialect, _code_of(column.type))
                for column in table.columns
            }
        return {
            name: value if value is None or (read := readers[name]) is None else _read(read, value)
            for name, value in self._driven(held).items()
            if name in readers
        }

    def _driven(self, held: HeldRow) -> dict[str, Any]:
        """A recorded row as the driver would give it."""
        values = held.values()
        for name, kind in zip(held.shape.columns, held.shape.types, strict=True):
            if kind in _JSON and isinstance(values[name], str) and not self.keeps_stored:
                values[name] = json.loads(values[name])
        return values

    @abstractmethod
    @contextmanager
    def unhindered(self) -> Iterator[None]:
        """Meanwhile neither foreign keys nor the application's own triggers do anything."""

    def load(self, rows: Mapping[str, Sequence[HeldRow]]) -> None:
        """Put rows into tables that are empty."""
        with self.unhindered():
            for name, held in rows.items():
                self._insert(name, held)

    def put(self, nets: Sequence[Net], *, begun: Sequence[str] = ()) -> None:
        """Make the rows what these nets left. Tables that begun anew hold nothing else."""
        with self.unhindered():
            for table in begun:
                if table in self.shapes:
                    self._run(f"DELETE FROM {self.qualified(table)}", ())
            self._put(nets)

    @abstractmethod
    @contextmanager
    def laid_out(self, tables: Sequence[str], layout: Layout | None) -> Iterator[bool]:
        """Meanwhile the rows of these tables lie in another order, without a layout backwards; whether that can be."""

    def take_back(self, nets: Sequence[Net]) -> None:
        """Make the rows what they were before these nets."""
        with self.unhindered():
            self._put([each._replace(before=each.after, after=each.before) for each in reversed(nets)])

    def _put(self, nets: Sequence[Net]) -> None:
        for net in nets:
            if net.table not in self.shapes:
                continue
            if net.after is None:
                self._delete(net)
            elif net.before is None or not self._update(net):
                self._insert(net.table, [net.after])

    def _insert(self, name: str, rows: Sequence[HeldRow]) -> None:
        if name not in self.shapes:
            return
        by_columns: dict[Any, list[HeldRow]] = {}
        for held in rows:
            by_columns.setdefault((held.shape.shape, *held.erased()), []).append(held)
        for alike in by_columns.values():
            for start in range(0, len(alike), _BATCH):
                self._insert_alike(name, [self._stored(name, held) for held in alike[start : start + _BATCH]])

    @abstractmethod
    def _insert_alike(self, name: str, rows: Sequence[Row]) -> None:
        """Insert rows that have the same columns."""

    def _update(self, net: Net) -> bool:
        """Change the row; whether it was there."""
        assert net.after is not None
        values = self._known(net.table, net.after) | self._for_erased(net.table, net.after)
        if not values:
            return True
        given = ", ".join(f"{quoted(name)} = {self._mark(net.table, name)}" for name in values)
        where, keys = self._where(net)
        return self._run(f"UPDATE {self.qualified(net.table)} SET {given} WHERE {where}", (*values.values(), *keys)) > 0

    def _delete(self, net: Net) -> None:
        where, keys = self._where(net)
        self._run(f"DELETE FROM {self.qualified(net.table)} WHERE {where}", keys)

    def _where(self, net: Net) -> tuple[str, tuple[Any, ...]]:
        """What chooses the row as it was before."""
        held = net.before or net.after
        assert held is not None
        fields = held.fields()
        key = [name for name in held.shape.key if name in self.shapes[net.table].columns]
        if not key:
            return self._alike(net.table, {name: fields[name] for name in self._known(net.table, held)})
        chosen = " AND ".join(f"{quoted(name)} = {self._mark(net.table, name)}" for name in key)
        return chosen, tuple(fields[name] for name in key)

    @abstractmethod
    def _alike(self, table: str, values: Row) -> tuple[str, tuple[Any, ...]]:
        """What chooses one of the rows that have these values."""

    def _escaped(self, statement: str) -> str:
        """A statement with nothing that the driver takes for a value."""
        return statement.replace("%", "%%") if self._parameter == "%s" else statement

    @abstractmethod
    def _mark(self, table: str, column: str) -> str:
        """What stands for a column's value in a statement."""

    @abstractmethod
    def _run(self, statement: str, values: Sequence[Any]) -> int:
        """Run a statement; how many rows it changed."""

    def _known(self, table: str, held: HeldRow) -> dict[str, Any]:
        """Of a recorded row what the table can be given, without what was erased."""
        columns, computed = self.shapes[table].columns, self._computed.get(table, frozenset())
        known = {name: value for name, value in held.fields().items() if name in columns and name not in computed}
        if not has_erased(held.row):
            return known
        return {name: value for name, value in known.items() if not isinstance(value, ErasedValue)}

    def _for_erased(self, table: str, held: HeldRow) -> dict[str, Any]:
        """What to put where a value was erased; nothing for a column that has a default of the database's."""
        found: dict[str, Any] = {}
        model = self.models.get(table)
        for name in held.erased():
            self.erased.setdefault(table, set()).add(name)
            if model is None or name not in model.columns or name in self._computed.get(table, ()):
                continue
            if model.columns[name].nullable:
                found[name] = None
            elif name in (needed := self._needed_by(table)):
                self._count += 1
                found[name] = needed[name](self._count)
        return found

    def _stored(self, table: str, held: HeldRow) -> dict[str, Any]:
        """The same with stand-ins for what must have a value and was not recorded."""
        values = self._known(table, held) | self._for_erased(table, held)
        for name, make in self._needed_by(table).items():
            if name not in values:
                self._count += 1
                values[name] = make(self._count)
        return values

    def _needed_by(self, table: str) -> dict[str, StandInValue]:
        if table not in self._needed:
            model = self.models.get(table)
            self._needed[table] = values_needed(model, self._connection.dialect) if model is not None else {}
        return self._needed[table]

    def is_default(self, table: str, column: str, value: Any) -> bool:
        """Whether a column holds what it does where nobody gives it a value, as far as that can be told."""
        model = self.models.get(table)
        if model is None or column not in model.columns:
            return True
        return holds_default(model.columns[column], value, self._connection.dialect)

    def there(self, table: str, column: str, values: Sequence[Any]) -> set[Any]:
        """Which of these values rows have in a column of integers."""
        cursor, known = self._cursor(), [each for each in values if each is not None]
        found: set[Any] = set()
        for start in range(0, len(known), _BATCH):
            some = known[start : start + _BATCH]
            marks = ", ".join([self._parameter] * len(some))
            name = f"SELECT {quoted(column)} FROM {self.qualified(table)} WHERE {quoted(column)}"
            cursor.execute(f"{self._escaped(name)} IN ({marks})", some)
            found.update(each for (each,) in cursor.fetchall())
        return found

    def _cursor(self) -> Any:
        return driver_connection(self._connection).cursor()


def _unique(table: Table) -> frozenset[str]:
    """Those of its key, its constraints and its indexes, as far as models say it."""
    constraints = [each for each in table.constraints if isinstance(each, (PrimaryKeyConstraint, UniqueConstraint))]
    indexes = [each for each in table.indexes if each.unique]
    found = {column.name for each in (*constraints, *indexes) for column in each.columns}
    return frozenset(found | {column.name for column in table.columns if column.unique})


def _computed(connection: Connection, table: Table) -> frozenset[str]:
    found = inspect(connection).get_columns(table.name, schema=table.schema)
    return frozenset(each["name"] for each in found if each.get("computed"))


def _code_of(kind: TypeEngine[Any]) -> int | None:
    """The driver's code of a column's type, where SQLAlchemy's type asks for it: of numbers, on PostgreSQL."""
    return _FLOAT if isinstance(kind, Float) else _NUMERIC if isinstance(kind, Numeric) else None


def _read(read: Callable[[Any], Any], value: Any) -> Any:
    """What a type makes of what the driver gives; of what is that already, or nothing that it knows, itself."""
    try:
        return read(value)
    except Exception:
        return value
