"""Keys that the database generates, in a sandbox: those that history has, and others that it never used.

SQLAlchemy's INSERTs are given them (`generated`). On PostgreSQL every other way of inserting a row gets them as
well: by hand, INSERT … SELECT, COPY, the application's triggers. There a column's default is the smallest key that was
recorded of the action and that no row has now, which is the order in which a sequence gave them; so it does not matter
what happened to rows before, in savepoints that were rolled back or by conflicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Integer, SmallInteger

from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.names import quoted
from actionbus.replay.past.nets import Net
from actionbus.replay.sandbox.tables import Tables

_FRESH: Final = ((SmallInteger, 30_000), (BigInteger, 1 << 62), (Integer, 2_000_000_000))
_FRESH_SQL: Final = {"smallint": 31_000, "integer": 2_001_000_000, "bigint": (1 << 62) + (1 << 32)}
"""By type, from where on keys are fresh that the database itself draws."""


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


class OwnedSequence(NamedTuple):
    """A column that gets its values from a sequence; as SQL names it, if there is one of that name in a sandbox."""

    column: str
    sequence: str | None


class Sequences:
    """The sequences that keys come from. PostgreSQL; elsewhere there are none.

    They stand where they stood as well, for handlers that ask them by name.
    """

    def __init__(self, connection: Connection, tables: Tables) -> None:
        self._connection = connection
        self._tables = tables
        self._owned: dict[str, OwnedSequence] = {}
        if connection.dialect.name == "postgresql":
            for statement in _MADE:
                self._execute(statement)
            for name in tables.shapes:
                self._find(name)

    def _find(self, table: str) -> None:
        home = self._tables.qualified(table)
        for column, kind, sequence, is_identity in self._execute(_FOUND, (home, home)):
            alter = f"ALTER TABLE {home} ALTER {quoted(column)}"
            if is_identity:
                self._execute(f"{alter} DROP IDENTITY")
            default = f"actionbus_key(%s::regclass, %s, {_FRESH_SQL[kind]})"
            self._execute(f"{alter.replace('%', '%%')} SET DEFAULT {default}", (home, quoted(column)))
            self._owned[table] = OwnedSequence(column, None if is_identity else sequence)

    def stand_before(self, recorded: Sequence[Net]) -> None:
        """Have the keys given that these rows have."""
        if not self._owned:
            return
        keys: dict[str, list[int]] = {}
        for net in recorded:
            if net.table in self._owned and net.before is None and net.after is not None:
                value = net.after.fields().get(self._owned[net.table].column)
                if value is not None:
                    keys.setdefault(net.table, []).append(int(value))
        homes = [self._tables.qualified(table) for table, found in keys.items() for _ in found]
        self._execute(_TOLD, (homes, [key for found in keys.values() for key in found]))
        for table, found in keys.items():
            if sequence := self._owned[table].sequence:
                self._execute("SELECT setval(%s::regclass, %s, false)", (sequence, max(1, min(found))))

    def _execute(self, statement: str, values: Sequence[Any] | None = None) -> list[Any]:
        cursor = driver_connection(self._connection).cursor()
        cursor.execute(statement, values)
        return list(cursor.fetchall()) if cursor.description else []


_MADE: Final = (
    "CREATE TABLE actionbus_keys (home regclass NOT NULL, key bigint NOT NULL, PRIMARY KEY (home, key))",
    "CREATE SEQUENCE actionbus_fresh_keys START 1",
    """
    CREATE FUNCTION actionbus_key(home regclass, name text, fresh bigint) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE
        found bigint;
    BEGIN
        EXECUTE format(
            'SELECT k.key FROM actionbus_keys k WHERE k.home = $1 AND NOT EXISTS (SELECT FROM %s t WHERE t.%s = k.key) '
            'ORDER BY k.key LIMIT 1', home, name
        ) INTO found USING home;
        RETURN coalesce(found, fresh + nextval('actionbus_fresh_keys'));
    END $$
    """,
)
"""It asks anew for each row, and sees what the statement that asks has inserted before it: it is volatile."""
_FOUND: Final = """
    SELECT a.attname, format_type(a.atttypid, NULL), pg_get_serial_sequence(%s::regclass::text, a.attname),
           a.attidentity <> ''
    FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
    AND pg_get_serial_sequence(a.attrelid::regclass::text, a.attname) IS NOT NULL
"""
_TOLD: Final = """
    DELETE FROM actionbus_keys;
    INSERT INTO actionbus_keys SELECT DISTINCT h::regclass, k FROM unnest(%s::text[], %s::bigint[]) AS t(h, k)
"""
