"""The journal on PostgreSQL 14 and later through psycopg2: the write path's SQL, locks and catalogue.

The gateway's connections are in autocommit mode and transactions are begun and ended in SQL, which saves a round trip:
the outcome's INSERT, COMMIT and the release of the action's lock are one. BEGIN is a round trip of its own, so that
nothing a handler sends, by whatever way, can come before it.

Names are qualified with the schema where the journal was found first, also when it is read, and the role is set back
before the outcome is appended: no `SET LOCAL search_path` or `SET LOCAL ROLE` of a handler decides where records go.

The lock of a running action is a session-level advisory lock on its id, taken in the RETURNING of its submitted
record, hence before that is visible to anybody, so that it is always free. It is given back after COMMIT; a backend
that dies gives it back too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2.extensions import (
    STATUS_READY,
    TRANSACTION_STATUS_ACTIVE,
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INERROR,
    TRANSACTION_STATUS_INTRANS,
)
from sqlalchemy import Connection, Engine, text

from actionbus.core.errors import JournalUnavailable, Misuse
from actionbus.core.internal_errors import CommitConflict
from actionbus.core.storage import postgresql_parts
from actionbus.core.storage.backend import ATTEMPTS, Backend, TransactionState, pause
from actionbus.core.storage.drivers import driver_connection, is_usable
from actionbus.core.storage.missing import NO_JOURNAL
from actionbus.core.storage.parts import HeldRecords, Parts
from actionbus.core.storage.pooling import HOLDING, UNCLEAN
from actionbus.core.storage.positions import find_home, see_that_it_draws_above
from actionbus.core.storage.postgresql_literals import filled, literal
from actionbus.core.storage.postgresql_parts import PostgreSQLParts
from actionbus.core.storage.postgresql_session import UNLOCK_ALL, Session, driver_settings, watch
from actionbus.core.storage.postgresql_statements import alone, appending, is_there_already, statements, submitting
from actionbus.core.storage.rights import KEYS, MARKED, QUEUE_TABLES, READ_ONLY, RUNS, STANDBY, see_that_it_may
from actionbus.core.storage.rows import RecordPlace, Row, Statement
from actionbus.core.storage.sessions import see_that_it_stays
from actionbus.core.storage.statements import ENDED_INSIDE
from actionbus.core.values.determinism import lock_key

_BEGIN: Final = "BEGIN ISOLATION LEVEL {isolation}; SET LOCAL actionbus.action = '{action}'"
_NAME: Final = "SELECT pg_catalog.set_config('actionbus.action', '{action}', true)"
_RELEASE: Final = (
    # Asking first avoids the server's warning where another connection held the lock.
    "SELECT pg_catalog.pg_advisory_unlock(%(key)s) WHERE EXISTS (SELECT 1 FROM pg_catalog.pg_locks "
    "WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid() "
    "AND (classid::bigint << 32 | objid::bigint) = %(key)s)"
)
"""For a session in which the application holds locks of its own, which `UNLOCK_ALL` would give back too."""
_PREPARED: Final = "actionbus.prepared"
_ROLE: Final = "actionbus.role"
"""Where a connection's `info` holds the role in which the action's transaction was begun."""
_TOLD_TO: Final = "actionbus.told_to"
"""Where it holds the action whose submitted record told that role."""
_SESSION: Final = "actionbus.session"
"""Where a connection's `info` holds how the application left its session."""
_STATES: Final = {
    TRANSACTION_STATUS_ACTIVE: TransactionState.OPEN,
    TRANSACTION_STATUS_INTRANS: TransactionState.OPEN,
    TRANSACTION_STATUS_INERROR: TransactionState.ABORTED,
}
"""By libpq's answer; all others mean that there is no transaction."""
_AT_REST: Final = (TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR)
_TRANSIENT: Final = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected."""


class PostgreSQL(Backend):
    """The backend for PostgreSQL."""

    has_one_writer = False
    can_announce = True
    now = "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"
    lesser = "least"

    def __init__(self, engine: Engine, schema: str | None, *, own_engine: bool) -> None:
        super().__init__(engine, schema, own_engine=own_engine)
        self._may_write = False

    def utc(self, stored: datetime) -> datetime:
        return stored.astimezone(UTC)

    def comparable(self, moment: datetime) -> datetime:
        return moment

    def _locate(self, cursor: Any) -> str | None:
        """The journal's schema: looked for once, whatever `search_path` says later."""
        self.home = self.home or find_home(cursor)
        return self.home

    @contextmanager
    def placed(self, connection: Connection) -> Iterator[None]:
        if self.schema is not None:  # then the names have it
            yield
            return
        home = self._locate(driver_connection(connection).cursor())
        before = connection.get_execution_options().get("schema_translate_map")
        connection.execution_options(schema_translate_map={None: home} if home else before)
        try:
            yield
        finally:
            connection.execution_options(schema_translate_map=before)

    def driver_mode(self, dbapi: Any) -> tuple[bool, tuple[Any, ...]]:
        return dbapi.autocommit, driver_settings(dbapi)

    def prepare_driver(self, dbapi: Any) -> None:
        dbapi.autocommit = True

    def give_back(self, dbapi: Any, info: dict[Any, Any], mode: Any) -> bool:
        if dbapi.closed:
            return True
        autocommit, settings = mode
        watch(dbapi, info, None)
        self._roll_back(dbapi)
        if HOLDING in info:
            self._unlock(dbapi, info, info[HOLDING])
        is_as_it_was = driver_settings(dbapi) == settings
        dbapi.autocommit = autocommit
        return is_as_it_was and not info.get(UNCLEAN)

    def append_submitted(self, connection: Connection, row: Row, *, durable: bool) -> RecordPlace | None:
        cursor, info = driver_connection(connection).cursor(), connection.info
        statement = submitting(row, lock_key(row.action_id), cursor, durable=durable)
        for number in range(1, ATTEMPTS + 1):
            self._prepare_statements(connection)
            info[HOLDING] = row.action_id
            try:
                cursor.execute(statement)
                told = cursor.fetchone()
                if told is None:
                    return None
                info[_ROLE], info[_TOLD_TO] = told[3], row.action_id
                return RecordPlace(told[0], told[1])
            except psycopg2.Error as error:
                if is_there_already(error):
                    return None
                self._prepare_for_another(error, connection, row, number)
        raise AssertionError("the last attempt either returns or raises")

    def _prepare_for_another(self, error: psycopg2.Error, connection: Connection, row: Row, number: int) -> None:
        """Raises what kept a submitted record from being appended, unless it may be sent again."""
        if isinstance(error, pg_errors.ReadOnlySqlTransaction):
            raise JournalUnavailable(READ_ONLY) from error
        if number == 1 and isinstance(error, pg_errors.InvalidSqlStatementName):
            self._prepare_statements(connection, anew=True)  # somebody discarded what the session had prepared
            return
        if not self.is_transient(error):
            raise error
        self.release(connection, row.action_id)  # it may have been taken before the statement failed
        if number == ATTEMPTS:
            raise error
        pause(number)

    def _prepare_statements(self, connection: Connection, *, anew: bool = False) -> None:
        """Prepare the write path's statements, unless this connection has them, for the same journal."""
        known = connection.info.get(_PREPARED)
        if known is not None and known == self.home and not anew:
            return
        cursor = driver_connection(connection).cursor()
        if not self._may_write:
            see_that_it_stays(driver_connection(connection), self._another)
            see_that_it_may(cursor, self.schema, self.uses)
            self._may_write = True
        home = self._locate(cursor)
        if home is None:
            raise JournalUnavailable(f"{NO_JOURNAL}; nothing was run")
        if known != home:
            see_that_it_draws_above(cursor, home)
        cursor.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'actionbus\\_%'")
        there = [name for (name,) in cursor.fetchall()]
        session = connection.info.get(_SESSION)
        if session is None:
            session = connection.info[_SESSION] = Session.of(cursor)
        prepared = statements(self.prefix, session, cursor)
        cursor.execute("; ".join([*(f"DEALLOCATE {name}" for name in there), prepared]))
        connection.info[_PREPARED] = home

    def _another(self) -> Any:
        """A connection like those of the pool, of which all others may be taken, that is none of it."""
        pooled = self.engine.pool.recreate().connect()
        pooled.detach()
        return pooled

    def begin(self, connection: Connection, isolation: str, action_id: UUID) -> None:
        cursor, info = driver_connection(connection).cursor(), connection.info
        beginning = _BEGIN.format(isolation=isolation, action=action_id.hex)
        if info.get(_TOLD_TO) == action_id:
            cursor.execute(beginning)
        else:  # nobody submitted it here, such as a queued one
            cursor.execute(f"{beginning}; SHOW role")
            info[_ROLE] = cursor.fetchone()[0]

    def enter_nested(self, connection: Connection, action_id: UUID) -> str | None:
        return _NAME.format(action=action_id.hex)

    def leave_nested(self, connection: Connection, action_id: UUID, outer_id: UUID) -> str | None:
        return _NAME.format(action=outer_id.hex)

    def state(self, dbapi: Any) -> TransactionState:
        return _STATES.get(dbapi.get_transaction_status(), TransactionState.NONE)

    def is_at_rest(self, dbapi: Any) -> bool:
        return not dbapi.closed and not dbapi.isexecuting() and dbapi.get_transaction_status() in _AT_REST

    def watch(self, connection: Connection, transaction: Any) -> None:
        watch(driver_connection(connection), connection.info, transaction)

    def seen(self, connection: Connection) -> str | None:
        return str(connection.execute(text("SELECT pg_current_snapshot()::text")).scalar_one())

    def check(self, connection: Connection) -> None:
        cursor = driver_connection(connection).cursor()
        cursor.execute(f"SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL ROLE {literal(connection.info[_ROLE], cursor)}")

    def finish(
        self,
        connection: Connection,
        isolation: str | None,
        rows: Sequence[Row],
        action_id: UUID,
        also: Sequence[Statement] = (),
    ) -> int:
        self._prepare_statements(connection, anew=bool(connection.info.get(UNCLEAN)))
        cursor = driver_connection(connection).cursor()
        session: Session = connection.info[_SESSION]
        if isolation:
            opening = _BEGIN.format(isolation=isolation, action=action_id.hex)
        else:  # what deferred triggers write is the action's too: its record must come after it
            opening = f"SET ROLE {literal(connection.info[_ROLE], cursor)}; SET CONSTRAINTS ALL IMMEDIATE"
        appends = (appending(row, cursor, is_own=row.action_id == action_id) for row in rows)
        ending = session.ending(lock_key(action_id))
        try:
            cursor.execute("; ".join([opening, *(self._filled(each, cursor) for each in also), *appends, ending]))
        except pg_errors.UniqueViolation as error:
            if is_there_already(error):
                raise CommitConflict("the action has an outcome already") from error
            raise
        except pg_errors.DivisionByZero as error:
            # The outcome's INSERT divides by whether what BEGIN set is set still. A trigger of COMMIT's does not count.
            if isolation is None and error.diag.context is None:
                connection.info[UNCLEAN] = True
                raise Misuse(ENDED_INSIDE) from error
            raise
        except psycopg2.Error as error:
            if not isinstance(error, psycopg2.IntegrityError) and not self.is_transient(error):
                connection.info[UNCLEAN] = True  # it may have struck between COMMIT and what follows
            raise
        connection.info.pop(HOLDING, None)
        position, is_same_user = cursor.fetchone()[:2]
        if not session.is_restored(is_same_user):
            connection.info[UNCLEAN] = True
        cursor.close()
        return int(position)

    def took_back(self, dbapi: Any, error: BaseException) -> bool:
        return bool(dbapi.closed)  # only a connection that is lost ends a transaction here

    def is_still(self, connection: Connection, action_id: UUID) -> bool:
        cursor = driver_connection(connection).cursor()
        cursor.execute("SELECT pg_catalog.current_setting('actionbus.action', true)")
        return bool(cursor.fetchone()[0] == action_id.hex)

    def rollback(self, connection: Connection) -> None:
        dbapi, info = driver_connection(connection), connection.info
        # Locks of a session survive it; those of an action are given back with the action's own.
        is_asked_only = HOLDING not in info and _SESSION in info and not info[_SESSION].has_locks
        self._roll_back(dbapi, f"ROLLBACK; {UNLOCK_ALL}" if is_asked_only else "ROLLBACK")
        self.prepare_driver(dbapi)

    def _roll_back(self, dbapi: Any, statement: str = "ROLLBACK") -> None:
        if dbapi.status != STATUS_READY:  # a handler switched the driver's own transactions on
            dbapi.rollback()
        if self.state(dbapi) is not TransactionState.NONE:
            dbapi.cursor().execute(statement)

    def append_alone(self, connection: Connection, row: Row, also: Sequence[Statement] = ()) -> int | None:
        return self.write(lambda connection: self._append_alone(connection, row, also), connection)

    def _append_alone(self, connection: Connection, row: Row, also: Sequence[Statement]) -> int | None:
        cursor = driver_connection(connection).cursor()
        # Several statements sent at once are one transaction.
        self._prepare_statements(connection)
        statements = (self._filled(each, cursor) for each in also)
        cursor.execute("; ".join([*statements, alone(row, self.prefix, cursor)]))
        position, ours = cursor.fetchone()
        self.release(connection, row.action_id)
        return position if ours else None

    def submit_chunk(
        self, connection: Connection, rows: Sequence[Row], lock: UUID, *, durable: bool
    ) -> Collection[UUID]:
        self._prepare_statements(connection)  # which also looks whether it may write
        try:
            return self.write(
                lambda used: postgresql_parts.submit(used, rows, lock, self.prefix, durable=durable), connection
            )
        except pg_errors.ReadOnlySqlTransaction as error:
            raise JournalUnavailable(READ_ONLY) from error

    def parts(self, connection: Connection, isolation: str) -> Parts:
        return PostgreSQLParts(connection, isolation, self.prefix, self._prepared_session, self._filled)

    def _prepared_session(self, connection: Connection, *, anew: bool = False) -> Session:
        self._prepare_statements(connection, anew=anew)
        session: Session = connection.info[_SESSION]
        return session

    def standing(self, connection: Connection, ids: Sequence[UUID]) -> HeldRecords:
        return self.read(lambda used: postgresql_parts.standing(used, ids, self.prefix), connection)

    def append_missing(self, connection: Connection, rows: Sequence[Row]) -> None:
        self.write(lambda used: postgresql_parts.append_missing(used, rows, self.prefix), connection)

    def run_alone(self, connection: Connection, statement: Statement) -> None:
        cursor = driver_connection(connection).cursor()
        self.write(lambda _: cursor.execute(self._filled(statement, cursor)), connection)

    def written_id(self, action_id: UUID) -> str:
        return str(action_id)

    def claim(self, connection: Connection, action_id: UUID) -> bool:
        # Unlike a new action, one that is claimed has no submitted record to append, which would find out.
        self._prepare_statements(connection)
        cursor = driver_connection(connection).cursor()
        connection.info[HOLDING] = action_id
        cursor.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (lock_key(action_id),))
        return bool(cursor.fetchone()[0])

    def release(self, connection: Connection, action_id: UUID) -> None:
        self._unlock(driver_connection(connection), connection.info, action_id)
        connection.info.pop(HOLDING, None)

    def _unlock(self, dbapi: Any, info: dict[Any, Any], action_id: UUID) -> None:
        session = info.get(_SESSION)
        is_ours_alone = session is not None and not session.has_locks
        dbapi.cursor().execute(UNLOCK_ALL if is_ours_alone else _RELEASE, {"key": lock_key(action_id)})

    def explain(self, error: Exception, connection: Connection) -> None:
        told = getattr(error, "orig", None) or error
        if not isinstance(told, psycopg2.Error) or not is_usable(connection) or self.in_transaction(connection):
            return
        with driver_connection(connection).cursor() as cursor:
            if isinstance(told, pg_errors.ObjectNotInPrerequisiteState):
                cursor.execute("SELECT pg_is_in_recovery()")
                if cursor.fetchone()[0]:
                    raise JournalUnavailable(STANDBY) from error
            if isinstance(told, (pg_errors.InsufficientPrivilege, pg_errors.UndefinedTable)):
                uses = _named_in(str(told))
                see_that_it_may(cursor, self.schema, {"read", *uses})
                if "queues" in uses:  # it may read them: what it was refused is to write
                    see_that_it_may(cursor, self.schema, {"queue"})
        super().explain(error, connection)

    def is_transient(self, error: BaseException) -> bool:
        return isinstance(error, psycopg2.Error) and error.pgcode in _TRANSIENT

    def _filled(self, statement: Statement, cursor: Any) -> str:
        return filled(statement.sql, statement.values, cursor, schema=self.prefix)


def _named_in(refusal: str) -> list[str]:
    """What a reader does besides reading the journal, by the tables that a refusal names."""
    by_use = {"open": (KEYS,), "marks": MARKED, "queues": (RUNS, *QUEUE_TABLES)}
    return [use for use, tables in by_use.items() if any(each in refusal for each in tables)]
