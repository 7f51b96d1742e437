"""A sandbox's business tables, into which recorded rows are put past triggers and constraints. Used by the sandbox.

A recorded row has the columns of its time. Those that the table has no longer are left out; those that it has since, or
that are withheld, get their default, or a stand-in where they need a value and have none. What was erased is NULL, or a
stand-in too where it must be something.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, MetaData, Table, inspect

from actionbus.core import Application
from actionbus.core.history.decoding import Erased, has_erased
from actionbus.core.history.postgresql_catalogue import PINS
from actionbus.core.history.shapes import Shape
from actionbus.core.storage.backend import quoted
from actionbus.core.storage.drivers import driver_connection
from actionbus.replay.errors import ReplayError
from actionbus.replay.nets import Held, Net
from actionbus.replay.standins import StandInValue, values_needed

_BATCH: Final = 1_000
_OTHERS: Final = ("journal", "alembic_version")
_OURS: Final = "actionbus_"
Row = Mapping[str, Any]


def business_tables(application: Application, connection: Connection) -> list[Table]:
    """Those of its models, or all there are but the journal's and Alembic's; those that others refer to first."""
    models = application.models
    if models is None or not models.tables:
        models = MetaData()
        names = inspect(connection).get_table_names()
        theirs = [name for name in names if name not in _OTHERS and not name.startswith(_OURS)]
        if theirs:
            models.reflect(connection, only=theirs)
    return list(models.sorted_tables)


class Tables(ABC):
    """The tables by the names that their shapes have. What is put there fires nothing and is checked by nothing."""

    def __init__(self, connection: Connection, shapes: Mapping[str, Shape], tables: Sequence[Table]) -> None:
        self._connection = connection
        self.shapes = shapes
        self.models = {self.name_of(each): each for each in tables}
        self._computed = {name: _computed(connection, each) for name, each in self.models.items()}
        self._needed: dict[str, dict[str, StandInValue]] = {}
        self._readers: dict[str, dict[str, Any]] = {}
        self._count = 0
        self.erased: dict[str, set[str]] = {}
        """By table, the columns in which something else stands for values that were erased."""

    @abstractmethod
    def name_of(self, table: Table) -> str:
        """A table's name as its shape has it."""

    @staticmethod
    def qualified(name: str) -> str:
        """Such a name in SQL."""
        schema, dot, table = name.partition(".")
        return f"{quoted(schema)}.{quoted(table)}" if dot else quoted(name)

    def python(self, table: Table, held: Held) -> dict[str, Any]:
        """A recorded row as SQLAlchemy's types give it, of the columns that the table has."""
        readers = self._readers.get(table.key)
        if readers is None:
            dialect = self._connection.dialect
            readers = self._readers[table.key] = {
                column.name: column.type.dialect_impl(dialect).result_processor(dialect, None)
                for column in table.columns
            }
        return {
            name: value if value is None or (read := readers[name]) is None else _read(read, value)
            for name, value in held.values().items()
            if name in readers
        }

    @abstractmethod
    @contextmanager
    def unhindered(self) -> Iterator[None]:
        """Meanwhile neither foreign keys nor the application's own triggers do anything."""

    def load(self, rows: Mapping[str, Sequence[Held]]) -> None:
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

    def _insert(self, name: str, rows: Sequence[Held]) -> None:
        if name not in self.shapes:
            return
        by_columns: dict[Any, list[Held]] = {}
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

    @abstractmethod
    def _mark(self, table: str, column: str) -> str:
        """What stands for a column's value in a statement."""

    @abstractmethod
    def _run(self, statement: str, values: Sequence[Any]) -> int:
        """Run a statement; how many rows it changed."""

    def _known(self, table: str, held: Held) -> dict[str, Any]:
        """Of a recorded row what the table can be given, without what was erased."""
        columns, computed = self.shapes[table].columns, self._computed.get(table, frozenset())
        known = {name: value for name, value in held.fields().items() if name in columns and name not in computed}
        if not has_erased(held.row):
            return known
        return {name: value for name, value in known.items() if not isinstance(value, Erased)}

    def _for_erased(self, table: str, held: Held) -> dict[str, Any]:
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

    def _stored(self, table: str, held: Held) -> dict[str, Any]:
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

    def _cursor(self) -> Any:
        return driver_connection(self._connection).cursor()


def _computed(connection: Connection, table: Table) -> frozenset[str]:
    found = inspect(connection).get_columns(table.name, schema=table.schema)
    return frozenset(each["name"] for each in found if each.get("computed"))


def _read(read: Callable[[Any], Any], value: Any) -> Any:
    """What a type makes of what the driver gives; of what is that already, or nothing that it knows, itself."""
    try:
        return read(value)
    except Exception:
        return value


class PostgreSQLTables(Tables):
    """Values are texts, cast to their columns' types."""

    def __init__(self, connection: Connection, shapes: Mapping[str, Shape], tables: Sequence[Table]) -> None:
        self._home = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
        super().__init__(connection, shapes, tables)

    def name_of(self, table: Table) -> str:
        return f"{table.schema or self._home}.{table.name}"

    @contextmanager
    def unhindered(self) -> Iterator[None]:
        pins = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in PINS.items())
        cursor = self._cursor()
        cursor.execute("SAVEPOINT actionbus_put")
        changed = [name.lower() for name in ("session_replication_role", *PINS)]
        cursor.execute("SELECT name, setting FROM pg_settings WHERE lower(name) = ANY(%s)", (changed,))
        before = cursor.fetchall()
        try:
            cursor.execute("SET LOCAL session_replication_role = replica")
        except Exception as error:
            cursor.execute("ROLLBACK TO SAVEPOINT actionbus_put")
            raise ReplayError(
                "the sandbox's user may not switch off triggers, which putting recorded rows there takes; use a "
                "superuser of a server of your own (--sandbox, ACTIONBUS_SANDBOX_URL)"
            ) from error
        cursor.execute(pins)
        try:
            yield
        except BaseException:
            with suppress(Exception):
                cursor.execute("ROLLBACK TO SAVEPOINT actionbus_put")
            raise
        for name, value in before:
            cursor.execute("SELECT set_config(%s, %s, true)", (name, value))
        cursor.execute("RELEASE SAVEPOINT actionbus_put")

    def _insert_alike(self, name: str, rows: Sequence[Row]) -> None:
        columns = list(rows[0])
        if not columns:
            for _ in rows:
                self._run(f"INSERT INTO {self.qualified(name)} DEFAULT VALUES", ())
            return
        marks = ", ".join("%s::text[]" for _ in columns)
        chosen = ", ".join(f"r.c{n}::{self._type(name, each)}" for n, each in enumerate(columns))
        names = ", ".join(map(quoted, columns)).replace("%", "%%")
        aliases = ", ".join(f"c{n}" for n in range(len(columns)))
        self._cursor().execute(
            f"INSERT INTO {self.qualified(name).replace('%', '%%')} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {chosen} FROM unnest({marks}) AS r({aliases})",
            [[row[each] for row in rows] for each in columns],
        )

    def _alike(self, table: str, values: Row) -> tuple[str, tuple[Any, ...]]:
        same = " AND ".join(f"{quoted(name)}::text IS NOT DISTINCT FROM ?" for name in values) or "true"
        return f"ctid = (SELECT ctid FROM {self.qualified(table)} WHERE {same} LIMIT 1)", tuple(values.values())

    def _type(self, table: str, column: str) -> str:
        shape = self.shapes[table]
        if column in shape.columns:
            return shape.types[shape.columns.index(column)].replace("%", "%%")
        model = self.models[table].columns[column]
        return str(model.type.compile(self._connection.dialect)).replace("%", "%%")

    def _mark(self, table: str, column: str) -> str:
        return f"CAST(CAST(? AS text) AS {self._type(table, column).replace('%%', '%')})"

    def _run(self, statement: str, values: Sequence[Any]) -> int:
        cursor = self._cursor()
        cursor.execute(statement.replace("%", "%%").replace("?", "%s"), tuple(values))
        return int(cursor.rowcount)


class SQLiteTables(Tables):
    """Values are what was stored."""

    def name_of(self, table: Table) -> str:
        return table.name

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
            cursor.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND instr(name, ?) = 0", (_OURS,)
            )
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


def tables_of(connection: Connection, shapes: Mapping[str, Shape], tables: Sequence[Table]) -> Tables:
    """The tables of a sandbox."""
    kind = PostgreSQLTables if connection.dialect.name == "postgresql" else SQLiteTables
    return kind(connection, shapes, tables)
