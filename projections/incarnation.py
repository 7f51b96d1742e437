"""Incarnation: what tells a database from its copies, so that no copy feeds the index of another. The ledger has it.

A journal's identity goes along with a dump; this does not. The row says in which cluster and database it was written,
and in which transaction; a row for which none of that is so any more was carried here, and is then renewed. Why this
tells dumps and copies from failovers and upgrades, and what it cannot tell: docs/decisions/0027.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, Engine, text

from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text

_FACTS: Final = """SELECT current_setting('server_version_num')::int / 10000 AS major,
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database, {cluster} AS cluster"""
_CLUSTER: Final = "(SELECT system_identifier::text FROM pg_control_system())"
_MAY_ASK: Final = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')"
_FOUND: Final = """SELECT incarnation, copied_from, cluster, major, database, relation, xid,
    tableoid::bigint AS now_relation, xmin::text::bigint AS now_xid FROM {table}"""
_VALUES: Final = """(is_only, incarnation, copied_from, cluster, major, database, relation, xid)
    VALUES (1, :incarnation, :copied_from, :cluster, :major, :database, CAST(:table AS regclass)::oid::bigint,
    (pg_current_xact_id()::text::numeric % 4294967296)::bigint)"""


class Incarnation:
    """Of the database of a backend. SQLite's is the file's: a copy of the file is not told from it."""

    def __init__(self, backend: Backend, engine: Engine) -> None:
        self._backend, self._engine = backend, engine
        self._postgresql = engine.dialect.name == "postgresql"

    def read(self) -> str | None:
        """The incarnation, or None if it has none yet, or only that of the database it is a copy of."""
        with self._engine.connect() as connection, self._backend.placed(connection):
            return self._as_found(connection, self._row(connection))

    def copied_from(self) -> str | None:
        """The incarnation of which this database is a copy, if it was found to be one."""
        with self._engine.connect() as connection, self._backend.placed(connection):
            row = self._row(connection)
            if row is None:
                return None
            found = row.copied_from if self._as_found(connection, row) else row.incarnation
            return None if found is None else str(found)

    def have(self) -> str:
        """The incarnation, noted if it was not: of a new database, of a copy, and anew after an upgrade in place."""
        if not self._postgresql:
            return self._have_on_sqlite()
        with self._engine.begin() as connection, self._backend.placed(connection):
            row = self._row(connection)
            found = self._as_found(connection, row)
            if found is not None and self._is_noted(connection, row):
                return found
            connection.execute(text(f"LOCK TABLE {in_text(self._table)} IN SHARE ROW EXCLUSIVE MODE"))
            row = self._row(connection)
            found = self._as_found(connection, row)
            before = row.copied_from if found else row.incarnation if row else None
            self._write(connection, found or str(uuid4()), before)
            noted = self._row(connection)
            return str(noted.incarnation)

    def _have_on_sqlite(self) -> str:
        if found := self.read():
            return found
        into = f"INSERT INTO {in_text(self._table)} (is_only, incarnation) VALUES (1, :incarnation)"
        with self._engine.begin() as connection:  # begun by a write, so that it need not become one
            connection.execute(text(f"{into} ON CONFLICT (is_only) DO NOTHING"), {"incarnation": str(uuid4())})
            return str(self._row(connection).incarnation)

    @property
    def _table(self) -> str:
        """Its name, which is known once the connection has shown where the journal is."""
        return f"{self._backend.prefix}actionbus_incarnation"

    def _row(self, connection: Connection) -> Any:
        if not self._postgresql:
            return connection.execute(
                text(f"SELECT incarnation, copied_from FROM {in_text(self._table)}")
            ).one_or_none()
        return connection.execute(text(_FOUND.format(table=in_text(self._table)))).one_or_none()

    def _facts(self, connection: Connection) -> Any:
        may_ask = connection.execute(text(_MAY_ASK)).scalar_one()
        return connection.execute(text(_FACTS.format(cluster=_CLUSTER if may_ask else "NULL"))).one()

    def _as_found(self, connection: Connection, row: Any) -> str | None:
        """What the row says, if it was written in this database."""
        if row is None:
            return None
        if self._postgresql:
            now = self._facts(connection)
            is_here = now.cluster is not None and row.cluster == now.cluster
            is_as_written = row.relation == row.now_relation and row.xid == row.now_xid
            is_upgraded = is_as_written and (now.cluster is None or row.cluster is None or now.major > row.major)
            if row.database != now.database or not (is_here or is_upgraded):
                return None
        return str(row.incarnation)

    def _is_noted(self, connection: Connection, row: Any) -> bool:
        now = self._facts(connection)
        return (row.cluster, row.major, row.relation, row.xid) == (
            now.cluster,
            now.major,
            row.now_relation,
            row.now_xid,
        )

    def _write(self, connection: Connection, incarnation: str, before: str | None) -> None:
        told = {"incarnation": incarnation, "copied_from": before}
        facts = self._facts(connection)._asdict()
        connection.execute(text(f"DELETE FROM {in_text(self._table)}"))
        connection.execute(
            text(f"INSERT INTO {in_text(self._table)} {_VALUES}"),
            told
            | {
                "cluster": facts["cluster"],
                "major": facts["major"],
                "database": facts["database"],
                "table": self._table,
            },
        )
