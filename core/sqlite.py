"""The journal on SQLite: one writer at a time, WAL, and file locks that tell which actions still run.

A running action holds a POSIX lock on one byte of a file beside the database, at an offset made from its id; the
kernel gives it back when the process dies. In memory there is one connection, shared, and a lock around each action.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.pool import StaticPool

from core.backend import WRITTEN, Appended, Backend, Row, Statement, driver_connection
from core.determinism import lock_key
from core.errors import CommitConflict, JournalUnavailable

try:
    import fcntl
except ImportError:  # pragma: no cover - not a POSIX system
    fcntl = None  # type: ignore[assignment]

_VALUES: Final = "(" + ", ".join(["?"] * len(Row._fields)) + ")"
_BUSY_TIMEOUT_MS: Final = 30_000
_PAUSE_S: Final = 0.01
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
        database = engine.url.database
        self._in_memory = isinstance(engine.pool, StaticPool) or not database or ":memory:" in database
        self._turn = threading.RLock() if self._in_memory else None
        self._running = RunningActions(None if self._in_memory else database)

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
        self._running.claim(row.action_id)
        level = None if durable else dbapi.execute("PRAGMA synchronous").fetchone()[0]
        try:
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
        return self._running.claim(action_id)

    def release(self, connection: Connection, action_id: UUID) -> None:
        self._running.release(action_id)

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


class RunningActions:
    """Which actions run now: in this process by a set, in others by locks on a file beside the database."""

    _files: dict[str, int] = {}
    """One descriptor per file and process: closing any would drop every POSIX lock of the process on it."""
    _by_file: dict[str, set[int]] = {}
    """A process never conflicts with its own POSIX locks, so the buses of one process share what they hold."""
    _guard = threading.Lock()

    def __init__(self, database: str | None) -> None:
        self._path = f"{os.path.abspath(database)}-running" if database else None
        self._here = self._by_file.setdefault(self._path, set()) if self._path else set()

    def claim(self, action_id: UUID) -> bool:
        """Whether the action ran nowhere; from now on it runs here."""
        offset = lock_key(action_id) & 0x3FFFFFFFFFFFFFFF
        with self._guard:
            if offset in self._here:
                return False
            if self._path and not self._lock(offset):
                return False
            self._here.add(offset)
            return True

    def release(self, action_id: UUID) -> None:
        """The action no longer runs here."""
        offset = lock_key(action_id) & 0x3FFFFFFFFFFFFFFF
        with self._guard:
            if offset in self._here:
                self._here.discard(offset)
                if self._path and fcntl:
                    fcntl.lockf(self._file(), fcntl.LOCK_UN, 1, offset)

    def _lock(self, offset: int) -> bool:
        if fcntl is None:
            raise JournalUnavailable(
                "SQLite files need POSIX file locks, which this system lacks; use sqlite:// or PostgreSQL"
            )
        try:
            fcntl.lockf(self._file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except OSError:
            return False
        return True

    def _file(self) -> int:
        assert self._path
        if self._path not in self._files:
            self._files[self._path] = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self._files[self._path]


def _prepare(dbapi: Any, record: Any) -> None:
    """Set what every connection needs: write-ahead log, foreign keys, recursive triggers, patience."""
    record.info[_PREPARED] = True
    for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", "foreign_keys=ON", "recursive_triggers=ON"):
        dbapi.execute(f"PRAGMA {pragma}")
    _use_wal(dbapi)


def _use_wal(dbapi: Any) -> None:
    """For this one change SQLite does not wait, so processes that open a new file at once must try again."""
    give_up = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            dbapi.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(_PAUSE_S)


def _written(row: Row) -> list[Any]:
    values: list[Any] = list(row)
    values[0] = row.action_id.hex
    if row.cause_id is not None:
        values[7] = row.cause_id.hex
    if row.started_at is not None:
        values[9] = row.started_at.replace(tzinfo=None).isoformat(" ", "microseconds")
    return values
