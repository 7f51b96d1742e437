"""The journal on SQLite: one writer at a time, WAL, and file locks that tell which actions still run.

Which actions run is told by `storage.running`. In memory there is one connection, shared, and a lock around each.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import StaticPool

from actionbus.core.errors import Misuse, chain_of
from actionbus.core.internal_errors import CommitConflict
from actionbus.core.storage.archive_ddl import ARCHIVED_KEYS
from actionbus.core.storage.backend import Backend, TakenConnection, TransactionState
from actionbus.core.storage.drivers import driver_connection, driver_error, is_usable, pooled
from actionbus.core.storage.parts import HeldRecords, Parts
from actionbus.core.storage.pooling import HOLDING, UNCLEAN
from actionbus.core.storage.rows import RecordPlace, Row, Statement
from actionbus.core.storage.running import RunningActions
from actionbus.core.storage.sqlite_guard import COMMIT, DENIED, MARK, Guard
from actionbus.core.storage.sqlite_images import RANGES, Ranges
from actionbus.core.storage.sqlite_parts import SQLiteParts
from actionbus.core.storage.sqlite_statements import ALONE, NESTED, OWN, SUBMIT, values_of
from actionbus.core.storage.sqlite_unsynced import WithoutSync, sync_again
from actionbus.core.storage.sqlite_url import file_of, shared_memory
from actionbus.core.storage.statements import ENDED_INSIDE

_BUSY_TIMEOUT_MS: Final = 30_000
_SET_MARK: Final = f"SAVEPOINT {MARK}"
_RELEASE_MARK: Final = f"RELEASE {MARK}"
_PAUSE_S: Final = 0.01
_PREPARED: Final = "actionbus.prepared"
_MAIN: Final = "main"
"""The file, as SQLite calls it. A name without this means a temporary table first, if there is one of that name."""
_HOLDS: Final = f"""SELECT EXISTS (SELECT 1 FROM {_MAIN}.journal WHERE action_id = ?1 AND kind = ?2)
    OR EXISTS (SELECT 1 FROM {_MAIN}.journal
        WHERE idempotency_key = ?3 AND action = ?4 AND coalesce(actor, '') = coalesce(?5, ''))
    OR EXISTS (SELECT 1 FROM {_MAIN}.{ARCHIVED_KEYS}
        WHERE idempotency_key = ?3 AND action = ?4 AND actor = coalesce(?5, ''))"""
"""Whether the journal holds the action's record, or its idempotency key, already."""
_TAKEN_BACK: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_CONSTRAINT,
    }
)
"""Errors after which SQLite may have rolled back the whole transaction (https://sqlite.org/lang_transaction.html)."""


class SQLite(Backend):
    """The backend for SQLite."""

    has_one_writer = True
    can_announce = False
    now = "((julianday('now') - 2440587.5) * 86400.0)"
    lesser = "min"

    def __init__(self, engine: Engine, schema: str | None, *, own_engine: bool) -> None:
        super().__init__(engine, _MAIN, own_engine=own_engine)
        if schema:
            raise ValueError("SQLite has no schemas; leave `schema` out")
        # First of all listeners: an application that has an authorizer of its own keeps it, at the price of ours.
        event.listen(engine, "connect", _guard, insert=True)
        event.listen(engine, "connect", _prepare)
        self._turn = threading.RLock() if isinstance(engine.pool, StaticPool) or not file_of(engine.url) else None
        self._running = RunningActions(shared_memory(engine.url))

    def utc(self, stored: str) -> datetime:
        return datetime.fromisoformat(stored).replace(tzinfo=UTC)

    def comparable(self, moment: datetime) -> datetime:
        return moment.astimezone(UTC).replace(tzinfo=None)

    def connection(self) -> AbstractContextManager[Connection]:
        return TakenConnection(self, self._turn)

    def connection_for_action(self) -> TakenConnection:
        return TakenConnection(self, self._turn, self.kept)

    def take(self, connection: Connection) -> None:
        super().take(connection)
        if _PREPARED not in connection.info:  # an engine that was handed in may have connected before
            self._prepare_anew(connection)

    def _prepare_anew(self, connection: Connection) -> None:
        if self._turn is None:
            self.renew(connection)
        else:
            _prepare(driver_connection(connection), connection)

    def driver_mode(self, dbapi: Any) -> Any:
        return dbapi.isolation_level

    def prepare_driver(self, dbapi: Any) -> None:
        if dbapi.isolation_level is not None:  # setting it commits
            dbapi.isolation_level = None

    def give_back(self, dbapi: Any, info: dict[Any, Any], mode: Any) -> bool:
        guard = Guard.of(info, dbapi)
        guard.let_go(dbapi)
        dbapi.rollback()
        sync_again(dbapi, guard)
        if HOLDING in info:
            self._running.release(info[HOLDING])
        dbapi.isolation_level = mode
        if not info.get(UNCLEAN):
            return True
        if self._turn is None:
            return False
        # The one connection is the database, so it is put right instead.
        guard.drop(dbapi)
        _set_pragmas(dbapi)
        del info[UNCLEAN]
        return True

    def append_submitted(self, connection: Connection, row: Row, *, durable: bool) -> RecordPlace | None:
        below = pooled(connection)
        dbapi: Any = below.dbapi_connection
        try:
            self._claim(dbapi, below.info, row.action_id)
            with WithoutSync(dbapi, Guard.of(below.info, dbapi), durable=durable):
                cursor = dbapi.execute(SUBMIT, values_of(row))
        except BaseException as error:
            self.release(connection, row.action_id)
            if isinstance(error, sqlite3.IntegrityError) and _holds(dbapi, row):
                return None
            raise
        return RecordPlace(cursor.lastrowid, None)

    def begin(self, connection: Connection, isolation: str, action_id: UUID) -> None:
        self._start(connection).execute(_SET_MARK)

    def _start(self, connection: Connection) -> Any:
        below = pooled(connection)
        dbapi: Any = below.dbapi_connection
        dbapi.execute("BEGIN IMMEDIATE")
        below.info[RANGES] = Ranges(dbapi)
        return dbapi

    def enter_nested(self, connection: Connection, action_id: UUID) -> None:
        if images := connection.info.get(RANGES):  # a sandbox begins in a way of its own
            images.enter(driver_connection(connection), action_id)

    def leave_nested(self, connection: Connection, action_id: UUID, outer_id: UUID) -> None:
        if images := connection.info.get(RANGES):
            images.leave(driver_connection(connection), action_id)

    def is_denial(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return False
        return any(isinstance(each, sqlite3.DatabaseError) and DENIED in str(each) for each in chain_of(error))

    def interruption(self, connection: Connection, error: BaseException) -> BaseException | None:
        if not is_usable(connection) or not self.is_denial(error):
            return None
        return Guard.of(connection.info, driver_connection(connection)).interruption()

    def state(self, dbapi: Any) -> TransactionState:
        return TransactionState.OPEN if dbapi.in_transaction else TransactionState.NONE

    def watch(self, connection: Connection, transaction: Any) -> None:
        below = pooled(connection)
        dbapi, info = below.dbapi_connection, below.info
        guard = Guard.of(info, dbapi)
        if transaction is None:
            guard.let_go(dbapi)
        else:
            guard.watch(connection, dbapi, info, transaction)

    def seen(self, connection: Connection) -> str | None:
        images: Ranges = connection.info[RANGES]
        return str(images.position)

    def check(self, connection: Connection) -> None:
        """Deferred foreign keys are looked at when COMMIT comes, and SQLite cannot be asked for these before it."""

    def finish(
        self,
        connection: Connection,
        isolation: str | None,
        rows: Sequence[Row],
        action_id: UUID,
        also: Sequence[Statement] = (),
    ) -> int:
        if isolation:
            dbapi = self._start(connection)
        else:
            dbapi = driver_connection(connection)
            self._require_mark(dbapi)
        position = self._append(connection, rows, action_id, also)
        dbapi.execute(COMMIT)
        self.release(connection, action_id)
        return position

    def _append(self, connection: Connection, rows: Sequence[Row], action_id: UUID, also: Sequence[Statement]) -> int:
        """Run `also` and append an action's rows, inside its transaction; the last one's position."""
        below = pooled(connection)
        dbapi: Any = below.dbapi_connection
        for each in also:
            dbapi.execute(*_placed(each))
        position = 0
        images: Ranges = below.info.pop(RANGES)
        images.append_bypass(dbapi)
        for row in rows:
            try:
                position = dbapi.execute(*_appending(images, row, action_id)).lastrowid
            except sqlite3.IntegrityError as error:
                if _holds(dbapi, row):
                    raise CommitConflict("the action has an outcome already") from error
                raise
        return position

    def _require_mark(self, dbapi: Any) -> None:
        """A savepoint tells whether the transaction is still the one that was begun: COMMIT and ROLLBACK remove it."""
        try:
            dbapi.execute(_RELEASE_MARK)
        except sqlite3.OperationalError as error:
            if "no such savepoint" in str(error):
                raise Misuse(ENDED_INSIDE) from error
            raise

    def took_back(self, dbapi: Any, error: BaseException) -> bool:
        found = (driver_error(each) for each in chain_of(error))
        return any(isinstance(each, sqlite3.Error) and _code(each) in _TAKEN_BACK for each in found)

    def is_still(self, connection: Connection, action_id: UUID) -> bool:
        try:
            self._require_mark(driver_connection(connection))
        except Misuse:
            return False
        return True

    def rollback(self, connection: Connection) -> None:
        driver_connection(connection).rollback()
        self.prepare_driver(driver_connection(connection))

    def append_alone(self, connection: Connection, row: Row, also: Sequence[Statement] = ()) -> int | None:
        dbapi = driver_connection(connection)
        try:
            if also:
                dbapi.execute("BEGIN IMMEDIATE")
                for each in also:
                    dbapi.execute(*_placed(each))
            position = int(dbapi.execute(ALONE, values_of(row)).lastrowid)
            if also:
                dbapi.execute(COMMIT)
            return position
        except sqlite3.IntegrityError:
            dbapi.rollback()
            if not _holds(dbapi, row):
                raise
            for each in also:
                dbapi.execute(*_placed(each))
            return None
        finally:
            dbapi.rollback()
            self.release(connection, row.action_id)

    def submit_chunk(
        self, connection: Connection, rows: Sequence[Row], lock: UUID, *, durable: bool
    ) -> Collection[UUID]:
        dbapi = driver_connection(connection)
        try:
            self.claim(connection, lock)
            with WithoutSync(dbapi, Guard.of(connection.info, dbapi), durable=durable):
                return self._append_new(dbapi, SUBMIT, rows)
        except BaseException:
            self.release(connection, lock)
            raise

    def append_missing(self, connection: Connection, rows: Sequence[Row]) -> None:
        self._append_new(driver_connection(connection), ALONE, rows)

    def _append_new(self, dbapi: Any, insert: str, rows: Sequence[Row]) -> list[UUID]:
        """Append in one transaction what the journal does not hold; which that was."""
        appended = []
        dbapi.execute("BEGIN IMMEDIATE")
        try:
            for row in rows:
                try:
                    dbapi.execute(insert, values_of(row))
                    appended.append(row.action_id)
                except sqlite3.IntegrityError:
                    if not _holds(dbapi, row):
                        raise
            dbapi.execute(COMMIT)
        finally:
            dbapi.rollback()
        return appended

    def parts(self, connection: Connection, isolation: str) -> Parts:
        return SQLiteParts(connection, isolation, self._append, self._require_mark, self.release)

    def standing(self, connection: Connection, ids: Sequence[UUID]) -> HeldRecords:
        marks = ", ".join("?" * len(ids))
        sql = f"SELECT action_id, kind FROM {_MAIN}.journal WHERE action_id IN ({marks})"
        found = driver_connection(connection).execute(sql, [each.hex for each in ids]).fetchall()
        return HeldRecords.of((UUID(action_id), kind) for action_id, kind in found)

    def run_alone(self, connection: Connection, statement: Statement) -> None:
        driver_connection(connection).execute(*_placed(statement))

    def written_id(self, action_id: UUID) -> str:
        return action_id.hex

    def claim(self, connection: Connection, action_id: UUID) -> bool:
        below = pooled(connection)
        return self._claim(below.dbapi_connection, below.info, action_id)

    def _claim(self, dbapi: Any, info: dict[Any, Any], action_id: UUID) -> bool:
        claimed = self._running.claim(action_id, dbapi)
        if claimed:  # else another thread has it, whose lock this connection must not give back
            info[HOLDING] = action_id
        return claimed

    def release(self, connection: Connection, action_id: UUID) -> None:
        self._running.release(action_id)
        if is_usable(connection):
            connection.info.pop(HOLDING, None)

    def is_transient(self, error: BaseException) -> bool:
        # BEGIN IMMEDIATE takes the one write lock at once, so nothing inside the transaction can conflict.
        return False


def _prepare(dbapi: Any, record: Any) -> None:
    """Set what every connection needs: write-ahead log, foreign keys, recursive triggers, patience."""
    _guard(dbapi, record)
    record.info[_PREPARED] = True
    _set_pragmas(dbapi)


def _guard(dbapi: Any, record: Any) -> None:
    Guard.of(record.info, dbapi)


def _set_pragmas(dbapi: Any) -> None:
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


def _code(error: sqlite3.Error) -> int:
    """The primary result code; the module's own errors have none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _placed(statement: Statement) -> tuple[str, tuple[Any, ...]]:
    return statement.sql.replace("{schema}", f"{_MAIN}."), statement.values


def _appending(images: Ranges, row: Row, action_id: UUID) -> tuple[str, list[Any]]:
    """The INSERT of a record in an action's transaction, and its values."""
    values = values_of(row)
    if row.kind != "outcome":
        return SUBMIT, values
    if row.action_id == action_id:
        return OWN, [*values, images.before]
    return NESTED, [*values, *images.of(row.action_id, row.status)]


def _holds(dbapi: Any, row: Row) -> bool:
    """Whether this is why a record was refused: a trigger or constraint of somebody else may have done so as well."""
    values = (row.action_id.hex, row.kind, row.idempotency_key, row.action, row.actor)
    return bool(dbapi.execute(_HOLDS, values).fetchone()[0])
