"""A sandbox's tables on PostgreSQL. See `replay.sandbox.tables`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, Table, text

from actionbus.core.history.decoding import fields_of
from actionbus.core.history.postgresql_catalogue import PINS
from actionbus.core.history.shapes import Shape
from actionbus.core.storage.names import quoted
from actionbus.replay.errors import ReplayError
from actionbus.replay.sandbox.tables import MOST_LAID_OUT, Layout, Row, Tables

_AS_THEY_LIE: Final = "; ".join(
    f"SET LOCAL enable_{way} = {'on' if way == 'seqscan' else 'off'}"
    for way in ("seqscan", "indexscan", "indexonlyscan", "bitmapscan")
)
_UNIQUE: Final = text("""
    SELECT n.nspname || '.' || c.relname, a.attname
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE (i.indisunique OR i.indisexclusion)
    AND (a.attnum = ANY(i.indkey) OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
""")
"""Of an index of expressions, or of some rows, all columns: it may be any."""


class PostgreSQLTables(Tables):
    """Values are texts, cast to their columns' types."""

    keeps_stored = False
    _parameter = "%s"

    def __init__(self, connection: Connection, shapes: Mapping[str, Shape], tables: Sequence[Table]) -> None:
        self._home = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
        super().__init__(connection, shapes, tables)
        for name, column in connection.execute(_UNIQUE):
            if name in self.models:
                self.unique[name] |= {column}

    def name_of(self, table: Table) -> str:
        return f"{table.schema or self._home}.{table.name}"

    def qualified(self, name: str) -> str:
        schema, _, table = name.partition(".")
        return f"{quoted(schema)}.{quoted(table)}"

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

    @contextmanager
    def laid_out(self, tables: Sequence[str], layout: Layout | None) -> Iterator[bool]:
        """Whoever asks takes it back: the rows are other ones, of the same values, and lie behind the old ones.

        They are read as they lie: an index, where the planner prefers that, would give them in its own order.
        """
        with self.unhindered():
            for table in tables:
                self._lay_out(table, layout)
        self._cursor().execute(_AS_THEY_LIE)
        yield True

    def _lay_out(self, table: str, layout: Layout | None) -> None:
        """Delete all and insert them again, in one statement."""
        cursor, home = self._cursor(), self.qualified(table).replace("%", "%%")
        cursor.execute(f"SELECT ctid::text, t::text FROM {home} t LIMIT {MOST_LAID_OUT + 1}".replace("%%", "%"))
        found = cursor.fetchall()
        if not 1 < len(found) <= MOST_LAID_OUT:
            return
        columns = self._columns(table)
        rows = [dict(zip(columns, fields_of(each), strict=True)) for _, each in found] if layout is not None else []
        order = list(range(len(found)))[::-1] if layout is None else layout(table, rows)
        given = [name for name in columns if name not in self._computed.get(table, ())]
        names = ", ".join(map(quoted, given)).replace("%", "%%")
        cursor.execute(
            f"WITH gone AS (DELETE FROM {home} t RETURNING t.ctid AS actionbus_place, t.*) "
            f"INSERT INTO {home} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM gone "
            "JOIN unnest(%s::text[]) WITH ORDINALITY AS o(actionbus_at, actionbus_n) "
            "ON actionbus_place = actionbus_at::tid ORDER BY actionbus_n",
            ([found[number][0] for number in order],),
        )

    def _columns(self, table: str) -> list[str]:
        """All of them, in the order of a row's text."""
        cursor = self._cursor()
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped "
            "ORDER BY attnum",
            (self.qualified(table),),
        )
        return [name for (name,) in cursor.fetchall()]

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
