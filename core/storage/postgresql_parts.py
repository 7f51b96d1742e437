"""Chunks of actions on PostgreSQL: their records many to a statement, their parts in one transaction.

A part leaves nothing in the transaction for the next one but its rows and its locks. Settings, cursors and temporary
tables go by statements that ride on the next savepoint's message, as they ride on COMMIT otherwise (see
`storage.postgresql_session`); what was deferred is done at the part's end, and deferred anew for the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from types import NoneType
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
from actionbus.core.storage.postgresql_literals import literal, literals
from actionbus.core.storage.postgresql_session import Session
from actionbus.core.storage.postgresql_statements import USED_KEY, is_there_already
from actionbus.core.storage.rows import Row, Statement
from actionbus.core.storage.statements import ENDED_INSIDE
from actionbus.core.values.determinism import lock_key
from actionbus.core.values.payload import dumps

_TYPES: Final = {
    "action_id": "uuid",
    "cause_id": "uuid",
    "started_at": "timestamptz",
    "handler_version": "int4",
    "duration_us": "int8",
    "format": "int2",
}
"""Columns of a record that are no text."""
_AS_TEXT: Final = frozenset({"action_id", "cause_id", "started_at"})
"""Columns whose values are neither texts nor numbers."""
_JSON: Final = frozenset({"context", "arguments", "result", "error", "calls"})
"""Texts that are kept as JSON, letter by letter as they are given."""
Filled = Callable[[Statement, Any], str]
_BEGIN: Final = "BEGIN ISOLATION LEVEL {isolation}"
_ENTER: Final = "SAVEPOINT {point}; EXECUTE actionbus_enter ('{action}')"
_LEAVE: Final = "EXECUTE actionbus_still ('{action}'); SET CONSTRAINTS ALL IMMEDIATE"
_RELEASE: Final = "RELEASE SAVEPOINT {point}"
_UNDO: Final = "ROLLBACK TO SAVEPOINT {point}; RELEASE SAVEPOINT {point}"
_LOCK: Final = "SELECT pg_catalog.pg_try_advisory_lock({}); "
_UNSYNCED: Final = "SELECT pg_catalog.set_config('synchronous_commit', 'off', true); "
"""Not waiting for this fsync is safe: that of the outcomes comes later in the same log."""
_DEFERRED: Final = """
    SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('%%I.%%I', n.nspname, c.conname), ', '),
        coalesce(bool_or(EXISTS (SELECT FROM pg_catalog.pg_constraint o WHERE o.connamespace = c.connamespace
            AND o.conname = c.conname AND NOT o.condeferred)), false),
        EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE name = 'actionbus_enter')
    FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
    WHERE c.condeferred AND c.conrelid <> %s::regclass
"""
"""What is deferred when a transaction begins, without our own; whether one name means another constraint too; and
whether the session still has what was prepared in it."""


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
        self._info = connection.info
        self._cursor: Any = PlainCursor(driver_connection(connection))  # whatever class the application gave its own
        self._points = cycle((f"{POINT}_a", f"{POINT}_b"))
        """In turn, so that a part is never taken for the one before, whose end goes with its beginning."""
        self._point = ""
        self._next_point = ""
        """That of a part which was to begin, and has not for all we know."""
        self._end_of_last = ""
        self._deferring = ""
        self._is_ambiguous = False
        self._rows: list[Row] = []
        self._also: list[Statement] = []
        self._outcomes: list[int] = []
        """Where among the rows they are."""

    @property
    def must_end(self) -> bool:
        return UNCLEAN in self._info or (self.is_ending and self._is_ambiguous)

    def enter(self, action_id: UUID) -> str:
        if not self.has_begun:
            self._begin()
        self._next_point = next(self._points)
        cleaning = self._cleaning() if self.is_ending else ()
        self._send(cleaning, _ENTER.format(point=self._next_point, action=action_id.hex))
        self._point, self._next_point = self._next_point, ""
        return str(self._cursor.fetchone()[0])

    def _begin(self) -> None:
        self._cursor.execute(
            f"{_BEGIN.format(isolation=self._isolation)}; {_DEFERRED}", (f"{self._home}actionbus_bypasses",)
        )
        self.has_begun = True
        names, self._is_ambiguous, is_prepared = self._cursor.fetchone()
        if names and not self._is_ambiguous:
            self._deferring = f"SET CONSTRAINTS {names} DEFERRED"
        if not is_prepared:  # somebody discarded it
            self._session = self._prepared(self._connection, anew=True)

    def _cleaning(self) -> list[str]:
        """What does away with what a part may have left in the session, and makes the application's own settings."""
        own = (
            f"SELECT pg_catalog.set_config({literals(setting, self._cursor)}, true)"
            for setting in self._session.settings
        )
        return ["RESET ALL", "CLOSE ALL", *(() if self._session.has_temporary else ("DISCARD TEMP",)), *own]

    def leave(self, action_id: UUID) -> None:
        if UNCLEAN in self._info:
            self._session = self._prepared(self._connection, anew=True)
        self.is_ending = True
        self._end_of_last = _LEAVE.format(action=action_id.hex)

    def settle(self) -> None:
        self._send((), "")

    def _send(self, cleaning: Iterable[str], entering: str) -> None:
        """End the last part, if it is ending, and have the next one begin. Up to the release all is the last one's."""
        if not self.is_ending:
            self._cursor.execute(entering)
            return
        self.is_ending = False
        ending = [self._end_of_last, *cleaning, self._deferring, _RELEASE.format(point=self._point), entering]
        try:
            self._cursor.execute("; ".join(filter(None, ending)))
        except pg_errors.DivisionByZero as error:
            if error.diag.context is None:  # not from a trigger
                self._info[UNCLEAN] = True
                raise Misuse(ENDED_INSIDE) from error
            raise

    def undo(self) -> None:
        if not self.has_begun:
            return
        try:
            self._cursor.execute(_UNDO.format(point=self._point))
        except (pg_errors.NoActiveSqlTransaction, pg_errors.InvalidSavepointSpecification) as error:
            if self._has_next_begun():
                raise
            self._info[UNCLEAN] = True
            raise Misuse(ENDED_INSIDE) from error

    def _has_next_begun(self) -> bool:
        """Whether the last part has ended well, and what failed came after that."""
        if not self._next_point:
            return False
        try:
            self._cursor.execute(f"ROLLBACK TO SAVEPOINT {self._next_point}")
        except psycopg2.Error:
            return False
        return True

    def append(self, action_id: UUID, rows: Sequence[Row], also: Sequence[Statement]) -> None:
        self._rows += rows
        self._also += also
        self._outcomes.append(len(self._rows) - 1)

    def commit(self, lock: UUID | None) -> list[int]:
        cursor = self._cursor
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
        info = self._info
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
    """An INSERT of them all, in their order, of the columns that any of them has.

    As one text of JSON: the server takes two thirds of the time over it that it takes over a list of VALUES.
    """
    told = zip(Row._fields, zip(*rows, strict=True), strict=True)
    used = {name: values for name, values in told if set(map(type, values)) != {NoneType}}
    for name in used.keys() & _AS_TEXT:
        used[name] = tuple(None if each is None else str(each) for each in used[name])
    objects = [dict(zip(used, each, strict=True)) for each in zip(*used.values(), strict=True)]
    columns = ", ".join(f"{name} pg_catalog.{_TYPES.get(name, 'text')}" for name in used)
    values = ", ".join(f"{name}::pg_catalog.json" if name in _JSON else name for name in used)
    return (
        f"INSERT INTO {home}journal ({', '.join(used)}) SELECT {values} "
        f"FROM pg_catalog.json_to_recordset({literal(dumps(objects), cursor)}) AS told ({columns})"
    )
