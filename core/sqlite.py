"""The journal on SQLite: one writer at a time, WAL, and file locks that tell which actions still run.

Which actions run is told by `core.running`. In memory there is one connection, shared, and a lock around each action.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.pool import StaticPool

from core.backend import WRITTEN, Appended, Backend, Row, Statement, driver_connection
from core.errors import CommitConflict
from core.running import RunningActions
from core.sqlite_url import file_of, shared_memory

_VALUES: Final = "(" + ", ".join(["?"] * len(Row._fields)) + ")"
_BUSY_TIMEOUT_MS: Final = 30_000
_PREPARED: Final = "actionbus.prepared"


class SQLite(Backend):
    """SQLite's answers."""

    def __init__(self, engine: Engine, schema: str | None, *, own_engine: bool) -> None:
        super().__init__(engine, None, own_engine=own_engine)
        if schema:
            raise ValueError("SQLite has no schemas; leave `schema` out")
        event.listen(engine, "connect", _prepare)
        self._insert = f"INSERT INTO journal ({WRITTEN}) VALUES "
        self._one = self._insert + _VALUES
        self._turn = threading.RLock() if isinstance(engine.pool, StaticPool) or not file_of(engine.url) else None
        self._running = RunningActions(shared_memory(engine.url))

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        with self._turn or nullcontext(), self.gateway.connect() as connection:
            dbapi = driver_connection(connection)
            if _PREPARED not in connection.info:  # an engine that was handed in may have connected before
                _prepare(dbapi, connection)
            usual = dbapi.isolation_level
            self.prepare_driver(dbapi)
            try:
                yield connection
            finally:
                if not connection.invalidated:
                    driver_connection(connection).isolation_level = usual

    def prepare_driver(self, dbapi: Any) -> None:
        dbapi.isolation_level = None

    def append_submitted(self, connection: Connection, row: Row, *, durable: bool) -> Appended | None:
        dbapi = driver_connection(connection)
        level = None if durable else dbapi.execute("PRAGMA synchronous").fetchone()[0]
        try:
            self._running.claim(row.action_id, dbapi)
            if level == 2:
                # The outcome's fsync of the same write-ahead log covers this record too.
                dbapi.execute("PRAGMA synchronous=NORMAL")
            cursor = dbapi.execute(self._one, _written(row))
        except sqlite3.IntegrityError:
            self._running.release(row.action_id)
            return None
        except BaseException:
            self._running.release(row.action_id)
            raise
        finally:
            if level == 2:
                dbapi.execute("PRAGMA synchronous=FULL")
        return Appended(cursor.lastrowid, None)

    def begin(self, connection: Connection, isolation: str) -> str:
        driver_connection(connection).execute("BEGIN IMMEDIATE")
        return ""

    def seen(self, connection: Connection) -> str | None:
        found = driver_connection(connection).execute("SELECT max(position) FROM journal").fetchone()
        return str(found[0] or 0)

    def finish(
        self, connection: Connection, begin: str, rows: Sequence[Row], action_id: UUID, also: Sequence[Statement] = ()
    ) -> int:
        dbapi = driver_connection(connection)
        for each in also:
            dbapi.execute(*each)
        position = 0
        for row in rows:
            try:
                position = dbapi.execute(self._one, _written(row)).lastrowid
            except sqlite3.IntegrityError as error:
                if "journal" in str(error):
                    raise CommitConflict("the action has an outcome already") from error
                raise
        dbapi.execute("COMMIT")
        self._running.release(action_id)
        return position

    def rollback(self, connection: Connection) -> None:
        driver_connection(connection).rollback()

    def append_alone(self, connection: Connection, row: Row, also: Sequence[Statement] = ()) -> int | None:
        dbapi = driver_connection(connection)
        try:
            if also:
                dbapi.execute("BEGIN IMMEDIATE")
                for each in also:
                    dbapi.execute(*each)
            position = int(dbapi.execute(self._one, _written(row)).lastrowid)
            if also:
                dbapi.execute("COMMIT")
            return position
        except sqlite3.IntegrityError:
            dbapi.rollback()
            for each in also:
                dbapi.execute(*each)
            return None
        finally:
            dbapi.rollback()
            self._running.release(row.action_id)

    def run_alone(self, connection: Connection, statement: Statement) -> None:
        driver_connection(connection).execute(*statement)

    def written_id(self, action_id: UUID) -> str:
        return action_id.hex

    def claim(self, connection: Connection, action_id: UUID) -> bool:
        return self._running.claim(action_id, driver_connection(connection))

    def release(self, connection: Connection, action_id: UUID) -> None:
        self._running.release(action_id)

    def in_transaction(self, connection: Connection) -> bool:
        return bool(driver_connection(connection).in_transaction)

    def is_transient(self, error: BaseException) -> bool:
        # BEGIN IMMEDIATE takes the one write lock at once, so nothing inside the transaction can conflict.
        return False

    def find_side_effects(self, connection: Connection, table: str) -> list[str]:
        triggers = text("""SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name
            AND name NOT LIKE 'actionbus@_%' ESCAPE '@' ORDER BY 1""")
        found = [f"trigger {name} on {table}" for name in connection.execute(triggers, {"name": table}).scalars()]
        cascades = text("""
            SELECT DISTINCT t.name FROM sqlite_master t JOIN pragma_foreign_key_list(t.name) f
            WHERE t.type = 'table' AND f."table" = :name COLLATE NOCASE
            AND (f.on_delete NOT IN ('NO ACTION', 'RESTRICT') OR f.on_update NOT IN ('NO ACTION', 'RESTRICT'))
            ORDER BY 1
        """)
        names = connection.execute(cascades, {"name": table}).scalars()
        return found + [f"cascade from {table} to {name}" for name in names]


def _prepare(dbapi: Any, record: Any) -> None:
    """Set what every connection needs: write-ahead log, foreign keys, recursive triggers, patience."""
    record.info[_PREPARED] = True
    for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", "journal_mode=WAL", "foreign_keys=ON", "recursive_triggers=ON"):
        dbapi.execute(f"PRAGMA {pragma}")


def _written(row: Row) -> list[Any]:
    values: list[Any] = list(row)
    values[0] = row.action_id.hex
    if row.cause_id is not None:
        values[7] = row.cause_id.hex
    if row.started_at is not None:
        values[9] = row.started_at.replace(tzinfo=None).isoformat(" ", "microseconds")
    return values
