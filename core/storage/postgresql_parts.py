"""Chunks of actions on PostgreSQL: their records many to a statement, their parts in one transaction.

A part leaves nothing in the transaction for the next one but its rows and its locks. Settings, cursors and temporary
tables go by statements that ride on the next savepoint's message, as they ride on COMMIT otherwise (see
`storage.postgresql_session`); what was deferred is done at the part's end, and deferred anew for the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2.extensions import cursor as PlainCursor  # noqa: N812
from sqlalchemy import Connection

from actionbus.core.errors import Misuse
from actionbus.core.internal_errors import CommitConflict
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.parts import POINT, HeldRecords, Parts
from actionbus.core.storage.pooling import HOLDING, UNCLEAN
from actionbus.core.storage.postgresql_literals import literals
from actionbus.core.storage.postgresql_session import Session
from actionbus.core.storage.postgresql_statements import USED_KEY, is_there_already
from actionbus.core.storage.rows import Row, Statement
from actionbus.core.storage.statements import ENDED_INSIDE
from actionbus.core.values.determinism import lock_key

Filled = Callable[[Statement, Any], str]
_BEGIN: Final = "BEGIN ISOLATION LEVEL {isolation}"
_ENTER: Final = (
    f"SAVEPOINT {POINT}; SELECT pg_catalog.set_config('actionbus.action', %s, true), "
    "pg_catalog.set_config('actionbus.role', pg_catalog.current_setting('role'), true), "
    "{settings}pg_catalog.pg_current_snapshot()::text"
)
_LEAVE: Final = f"EXECUTE actionbus_still (%s); SET CONSTRAINTS ALL IMMEDIATE; {{deferring}}RELEASE SAVEPOINT {POINT}"
_UNDO: Final = f"ROLLBACK TO SAVEPOINT {POINT}; RELEASE SAVEPOINT {POINT}"
_LOCK: Final = "SELECT pg_catalog.pg_try_advisory_lock({}); "
_UNSYNCED: Final = "SELECT pg_catalog.set_config('synchronous_commit', 'off', true); "
"""Not waiting for this fsync is safe: that of the outcomes comes later in the same log."""
_DEFERRED: Final = """
    SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('%%I.%%I', n.nspname, c.conname), ', '),
        coalesce(bool_or(EXISTS (SELECT FROM pg_catalog.pg_constraint o WHERE o.connamespace = c.connamespace
            AND o.conname = c.conname AND NOT o.condeferred)), false)
    FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
    WHERE c.condeferred AND c.conrelid <> %s::regclass
"""
"""What is deferred when a transaction begins, without our own; whether one name means another constraint too."""


class PostgreSQLParts(Parts):
    """One transaction of several actions. `prepared` gives the session, with the write path's statements in it."""

    def __init__(
        self, connection: Connection, isolation: str, home: str, prepared: Callable[..., Session], filled: Filled
    ) -> None:
        super().__init__(connection, isolation)
        self._home = home
        self._prepared = prepared
        self._filled = filled
        self._session = prepared(connection)
        self._is_used = False
        """Whether a part has left something to be done away with."""
        self._deferring = ""
        self._is_ambiguous = False
        self._rows: list[Row] = []
        self._also: list[Statement] = []
        self._outcomes: list[int] = []
        """Where among the rows they are."""

    @property
    def must_end(self) -> bool:
        return UNCLEAN in self._connection.info or (self._is_used and self._is_ambiguous)

    def _cursor(self) -> Any:
        """Whatever class the application gave its cursors."""
        return PlainCursor(driver_connection(self._connection))

    def enter(self, action_id: UUID) -> str | None:
        cursor = self._cursor()
        opening = [] if self.has_begun else [_BEGIN.format(isolation=self._isolation)]
        own = self._session.settings if self._is_used else ()
        if self._is_used:
            opening += ["RESET ALL", "CLOSE ALL", *(() if self._session.has_temporary else ("DISCARD TEMP",))]
        entering = _ENTER.format(settings="pg_catalog.set_config(%s, %s, true), " * len(own))
        values = [action_id.hex, *(each for setting in own for each in setting)]
        cursor.execute("; ".join([*opening, entering]), values)
        seen = str(cursor.fetchone()[-1])
        self._is_used = False
        if not self.has_begun:
            self.has_begun = True
            self._look_for_deferred(cursor)
        return seen

    def _look_for_deferred(self, cursor: Any) -> None:
        cursor.execute(_DEFERRED, (f"{self._home}actionbus_bypasses",))
        names, self._is_ambiguous = cursor.fetchone()
        if names and not self._is_ambiguous:
            self._deferring = f"SET CONSTRAINTS {names.replace('%', '%%')} DEFERRED; "

    def leave(self, action_id: UUID) -> None:
        self._session = self._prepared(self._connection, anew=bool(self._connection.info.get(UNCLEAN)))
        self._is_used = True
        try:
            self._cursor().execute(_LEAVE.format(deferring=self._deferring), (action_id.hex,))
        except pg_errors.DivisionByZero as error:
            if error.diag.context is None:  # not from a trigger
                self._connection.info[UNCLEAN] = True
                raise Misuse(ENDED_INSIDE) from error
            raise

    def undo(self) -> None:
        if not self.has_begun:
            return
        try:
            self._cursor().execute(_UNDO)
        except (pg_errors.NoActiveSqlTransaction, pg_errors.InvalidSavepointSpecification) as error:
            self._connection.info[UNCLEAN] = True
            raise Misuse(ENDED_INSIDE) from error

    def append(self, action_id: UUID, rows: Sequence[Row], also: Sequence[Statement]) -> None:
        self._rows += rows
        self._also += also
        self._outcomes.append(len(self._rows) - 1)

    def commit(self, lock: UUID | None) -> list[int]:
        cursor = self._cursor()
        also = [self._filled(each, cursor) for each in self._also]
        opening = [] if self.has_begun else [_BEGIN.format(isolation=self._isolation)]
        inserting = f"{_inserting(cursor, self._home, self._rows)} RETURNING position"
        try:
            cursor.execute("; ".join([*opening, *also, inserting]))
        except pg_errors.UniqueViolation as error:
            if is_there_already(error):
                raise CommitConflict("an action has an outcome already") from error
            raise
        positions = [position for (position,) in cursor.fetchall()]
        self._end(cursor, lock)
        return [positions[place] for place in self._outcomes]

    def _end(self, cursor: Any, lock: UUID | None) -> None:
        info = self._connection.info
        try:
            cursor.execute(self._session.ending(lock_key(lock) if lock else 0))
        except psycopg2.Error:
            info[UNCLEAN] = True  # it may have struck between COMMIT and what follows
            raise
        _, is_same_user = cursor.fetchone()[:2]
        if not self._session.is_restored(is_same_user):
            info[UNCLEAN] = True
        if lock is not None:
            info.pop(HOLDING, None)


def submit(connection: Connection, rows: Sequence[Row], lock: UUID, home: str, *, durable: bool) -> list[UUID]:
    """Append submitted records and take their lock; which were appended: those whose key is new."""
    cursor = PlainCursor(driver_connection(connection))
    connection.info[HOLDING] = lock
    inserting = f"{_inserting(cursor, home, rows)} ON CONFLICT {USED_KEY} DO NOTHING RETURNING action_id::text"
    cursor.execute(_LOCK.format(lock_key(lock)) + ("" if durable else _UNSYNCED) + inserting)
    return [UUID(action_id) for (action_id,) in cursor.fetchall()]


def append_missing(connection: Connection, rows: Sequence[Row], home: str) -> None:
    """Append outcomes, but of actions that have one."""
    cursor = PlainCursor(driver_connection(connection))
    cursor.execute(f"{_inserting(cursor, home, rows)} ON CONFLICT (action_id, kind) DO NOTHING")


def standing(connection: Connection, ids: Sequence[UUID], home: str) -> HeldRecords:
    """Which records of these actions the journal holds."""
    cursor = PlainCursor(driver_connection(connection))
    doubled = home.replace("%", "%%")
    cursor.execute(
        f"SELECT action_id::text, kind FROM {doubled}journal WHERE action_id = ANY (%s::uuid[])", ([*map(str, ids)],)
    )
    return HeldRecords.of((UUID(action_id), kind) for action_id, kind in cursor.fetchall())


def _inserting(cursor: Any, home: str, rows: Sequence[Row]) -> str:
    """An INSERT of them all, of the columns that any of them has."""
    used = [place for place in range(len(Row._fields)) if any(each[place] is not None for each in rows)]
    names = ", ".join(Row._fields[place] for place in used)
    told = (f"({literals([each[place] for place in used], cursor)})" for each in rows)
    return f"INSERT INTO {home}journal ({names}) VALUES {', '.join(told)}"
