"""The one database transaction in which an action's handler runs, nested actions included. Made by `core.execution`.

`core.events` calls it back: before each statement, to let BEGIN ride on the first; after each, to note rows; when a
savepoint ends, to forget what was rolled back with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from sqlalchemy import Connection, Insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core.backend import Backend, Row, Statement, driver_connection
from core.errors import Misuse
from core.events import KEY
from core.limits import Limits
from core.payload import dumps
from core.queue import Message
from core.touched import RowRecorder

SessionFactory = Callable[..., Session]


class Queued(NamedTuple):
    """An action that a handler queued: what is sent, the row that keeps it, its outcome should it be rolled back."""

    message: Message | None
    """None if it is not due yet."""
    insert: Statement
    withdrawn: Row


class ActionTransaction:
    """Begun when made; ended by `finish` or `rollback`."""

    def __init__(
        self, backend: Backend, connection: Connection, isolation: str, factory: SessionFactory, limits: Limits
    ) -> None:
        self._backend = backend
        self._connection = connection
        self._factory = factory
        self._limits = limits
        self._session: Session | None = None
        self._savepoints: dict[str, tuple[RowRecorder, int, int, int]] = {}
        self.recorder = RowRecorder(limits)
        self.nested: list[Row] = []
        """Records of nested actions, appended just before the outer outcome."""
        self.queued: list[Queued] = []
        """Actions that the handler queued; they leave for the broker once this transaction is committed."""
        self.doomed = False
        """Set when SQLAlchemy rolled the transaction back by itself, after an error that the handler caught."""
        self._begin = self._start(isolation)
        connection.info[KEY] = self

    @property
    def connection(self) -> Connection:
        """The connection that it runs on."""
        return self._connection

    def _start(self, isolation: str) -> str:
        return self._backend.begin(self._connection, isolation)

    @property
    def session(self) -> Session:
        """The handler's session, inside this transaction."""
        if self._session is None:
            self._session = self._open()
            for name in ("commit", "rollback", "close"):
                setattr(self._session, name, _refusing(name))
        return self._session

    def _open(self) -> Session:
        return self._factory(bind=self._connection)

    def imposed(
        self, statement: Insert, many: Sequence[Mapping[str, Any]]
    ) -> tuple[Insert, Sequence[Mapping[str, Any]]]:
        """Called before each INSERT: the same with the values it is to have, which a sandbox knows from the journal."""
        return statement, many

    def seen(self) -> str | None:
        """The snapshot that this transaction sees."""
        return self._backend.seen(self._connection)

    def flush(self) -> None:
        """Send what the session still holds. Raises Misuse if the transaction cannot be committed any more."""
        if self._session is not None and not self.doomed:
            self._session.flush()
        if self.doomed:
            raise Misuse(
                "a database error was caught, but it had rolled the transaction back; "
                "put what may fail inside `with session.begin_nested():`"
            )

    def finish(self, rows: Sequence[Row], action_id: UUID, also: Sequence[Statement] = ()) -> int:
        """Append the records, run `also` and commit; the last record's position. Raises DBAPIError, CommitConflict."""
        self._connection.info.pop(KEY, None)
        begin, self._begin = self._begin, ""
        dbapi = self._backend.engine.dialect.loaded_dbapi
        try:
            also = [*also, *(queued.insert for queued in self.queued)]
            position = self._backend.finish(self._connection, begin, [*self.nested, *rows], action_id, also)
        except dbapi.Error as error:
            # As SQLAlchemy would raise it from a commit of its own.
            lost = self._backend.is_lost(error, self._connection)
            raise DBAPIError.instance("COMMIT", None, error, dbapi.Error, connection_invalidated=lost) from error
        self._close()
        return position

    def rollback(self) -> None:
        """Undo everything. Raises the driver's error if the connection is lost."""
        self._connection.info.pop(KEY, None)
        try:
            if not self._begin:
                self._backend.rollback(self._connection)
        finally:
            self._close()

    def before_statement(self, cursor: Any, statement: str, many: bool) -> str:
        """Called before each statement: puts BEGIN ahead of the first."""
        begin, self._begin = self._begin, ""
        if getattr(cursor, "name", None):
            # A server-side cursor needs a transaction the driver knows of, or to be held by the server.
            cursor.withhold = True
        elif not many:
            return begin + statement
        if begin:
            driver_connection(self._connection).cursor().execute(begin)
        return statement

    def savepoint(self, name: str) -> None:
        """Called when a savepoint was set."""
        self._savepoints[name] = self._mark()

    def _mark(self) -> tuple[RowRecorder, int, int, int]:
        return self.recorder, len(self.recorder.rows), len(self.nested), len(self.queued)

    def release_savepoint(self, name: str) -> None:
        """Called when a savepoint was released."""
        self._savepoints.pop(name, None)

    def rollback_savepoint(self, name: str) -> None:
        """Called when a savepoint was rolled back: its rows were not touched, its nested actions did not succeed."""
        recorder, rows, nested, queued = self._savepoints.pop(name, self._mark())
        del recorder.rows[rows:]
        for number, row in enumerate(self.nested[nested:], start=nested):
            if row.status == "succeeded":
                self.nested[number] = row._replace(status="failed", result=None, error=_ROLLED_BACK, touched=None)
        for dropped in self.queued[queued:]:
            self.nested.append(dropped.withdrawn._replace(error=_ROLLED_BACK))
        del self.queued[queued:]

    def check_side_effects(self, table: Any) -> None:
        """Note triggers and cascades of a table that was written."""
        name = getattr(table, "fullname", None)
        if name:
            for effect in self._backend.side_effects(self._connection, name):
                self.recorder.unknown(effect)

    def _close(self) -> None:
        if self._session is not None:
            type(self._session).close(self._session)


_ROLLED_BACK = dumps(
    {"type": "core.errors:Misuse", "message": "rolled back together with a savepoint of the action that caused it"}
)


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise Misuse(
            f"session.{name}() is the gateway's to call: an action's writes and its outcome are one transaction; "
            "use `with session.begin_nested():` for a part that may fail on its own"
        )

    return refuse
