"""The one database transaction in which an action's handler runs, nested actions included. Made by who runs handlers.

`gateway.sql_events` calls it back: before each statement, to refuse what would end it; when a savepoint ends, to forget
what was rolled back with it. So do the driver's own cursors (`postgresql_session`) and SQLite (`sqlite_guard`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn
from uuid import UUID

from sqlalchemy import Connection, Insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from actionbus.core.declare.broker import Message
from actionbus.core.errors import Misuse
from actionbus.core.storage.backend import Backend, TransactionState
from actionbus.core.storage.drivers import driver_connection, is_usable
from actionbus.core.storage.pooling import ACTING, UNCLEAN
from actionbus.core.storage.rows import Row, Statement
from actionbus.core.storage.statements import ENDED_INSIDE, read
from actionbus.core.values.payload import dumps
from actionbus.core.values.tagged import class_name

log = logging.getLogger("actionbus")
SessionFactory = Callable[..., Session]


class QueuedAction(NamedTuple):
    """An action that a handler queued: what is sent, the row that keeps it, its outcome should it be rolled back."""

    message: Message | None
    """None if it is not due yet, or run at once."""
    insert: Statement
    withdrawn: Row
    at_once: bool = False
    """Whether the process that commits it runs it right after."""


class ActionTransaction:
    """Begun when its session is first used, or by `seen`; ended by `finish`, `rollback`.

    Nothing that is done on its connection escapes it: BEGIN is sent before anything else can be; what would end it is
    refused by `allow` before it is sent, and by `finish` where that was evaded; what outlasts it in the session is
    undone with the end, or costs the connection. Should even the end be missed, the pool rolls back.
    """

    is_part = False
    """Whether other actions share the database's transaction, of which this one has a savepoint."""

    def __init__(
        self,
        backend: Backend,
        connection: Connection,
        isolation: str,
        factory: SessionFactory,
        action_id: UUID,
    ) -> None:
        self._backend = backend
        self._connection = connection
        self._isolation = isolation
        self._factory = factory
        self._action_id = action_id
        self._dbapi: Any = driver_connection(connection)
        self._info = connection.info
        self._session: Session | None = None
        self._has_begun = False
        self._sent: str | None = None
        """The statement that was allowed last, of which the driver's cursor asks again."""
        self._savepoints: dict[str, tuple[int, int]] = {}
        """By name, how many nested records and queued actions there were when it was set."""
        self.nested: list[Row] = []
        """Records of nested actions, appended just before the outer outcome."""
        self.queued: list[QueuedAction] = []
        """Actions that the handler queued; they leave for the broker once this transaction is committed."""
        self.doomed = False
        """Set when SQLAlchemy rolled the transaction back by itself, after an error that the handler caught."""
        self.refused: str | None = None
        """What the database was not let do, where only its driver's error tells the handler (SQLite)."""
        self.is_open = True
        self._is_ending = False
        self._rider: str | None = None
        """What is to be sent with a nested action's savepoint, or its release."""
        self._info[ACTING] = self

    @property
    def backend(self) -> Backend:
        """Which knows where the journal and what belongs to it are."""
        return self._backend

    @property
    def connection(self) -> Connection:
        """The connection that it runs on."""
        return self._connection

    @property
    def action_id(self) -> UUID:
        """The action whose transaction it is."""
        return self._action_id

    @property
    def session(self) -> Session:
        """The handler's session, inside this transaction."""
        self.begin()
        if self._session is None:
            self._session = self._open()
            self._session.__dict__.update(_THE_GATEWAYS_OWN)
        return self._session

    def begin(self) -> None:
        """Send BEGIN, unless it was sent."""
        if not self._has_begun:
            self._start(self._isolation)
            self._has_begun = True

    def send_savepoints(self) -> None:
        """Send those that the handler has set and SQLAlchemy has not sent: what is queued now goes with them."""
        if self._session is not None:
            self._session.connection()

    def enter(self, action_id: UUID) -> None:
        """Called inside a nested action's savepoint: from here on changed rows are that action's."""
        self._rider = self._backend.enter_nested(self._connection, action_id)
        self.session.connection()  # sends the savepoint, which SQLAlchemy does not before it is used

    def leave(self, action_id: UUID, outer_id: UUID) -> None:
        """Called at the end of a nested action that succeeds: with its savepoint, rows are the outer one's again."""
        self.flush()
        self._rider = self._backend.leave_nested(self._connection, action_id, outer_id)

    def _start(self, isolation: str) -> None:
        try:
            self._backend.begin(self._connection, isolation, self._action_id)
        except self._backend.driver_errors as error:
            raise self._wrapped("BEGIN", error) from error
        self._backend.watch(self._connection, self)

    def _open(self) -> Session:
        return self._factory(bind=self._connection)

    def imposed(
        self, statement: Insert, many: Sequence[Mapping[str, Any]]
    ) -> tuple[Insert, Sequence[Mapping[str, Any]]]:
        """Called before each INSERT: the same with the values it is to have, which a sandbox knows from the journal."""
        return statement, many

    def seen(self) -> str | None:
        """The snapshot that this transaction sees, which is begun for it."""
        self.begin()
        return self._backend.seen(self._connection)

    def flush(self) -> None:
        """Send what the session still holds. Raises Misuse if the transaction cannot be committed any more."""
        if self._session is not None and not self.doomed:
            self._session.flush()
        if self.doomed:
            raise Misuse(_ROLLED_BACK_ALREADY)

    def finish(self, rows: Sequence[Row], also: Sequence[Statement] = ()) -> int:
        """Run `also`, append the records and commit; the last record's position.

        Raises DBAPIError, CommitConflict, and Misuse if there is nothing left to commit.
        """
        self._is_ending = True
        self._require_open()
        self._let_go()
        isolation = None if self._has_begun else self._isolation
        also = [*also, *(queued.insert for queued in self.queued)] if self.queued else also
        try:
            position = self._backend.finish(self._connection, isolation, [*self.nested, *rows], self._action_id, also)
        except self._backend.driver_errors as error:
            raise self._wrapped("the outcome's INSERT; COMMIT", error) from error
        self.close()
        return position

    def _wrapped(self, statement: str, error: Exception) -> Exception:
        """A driver's error as SQLAlchemy would raise it from a statement of its own."""
        lost = self._backend.is_lost(error, self._connection)
        return DBAPIError.instance(statement, None, error, self._backend.driver_errors, connection_invalidated=lost)

    def _require_open(self) -> None:
        if not self._has_begun:
            return
        if not is_usable(self._connection):
            raise Misuse(
                "the action's connection was closed or invalidated inside of its handler, and its writes went with it; "
                "leave the connection to the gateway"
            )
        match self._backend.state(driver_connection(self._connection)):
            case TransactionState.ABORTED:
                raise Misuse(_ROLLED_BACK_ALREADY)
            case TransactionState.NONE:
                self._connection.info[UNCLEAN] = True  # what was set before has been committed too
                raise Misuse(ENDED_INSIDE)

    def was_ended_inside(self, error: BaseException) -> bool:
        """Whether what the handler did ended the transaction, so that its writes may stay although it raised `error`.

        A database may roll back by itself on an error of its own, as SQLAlchemy does; then nothing stays.
        """
        if not self._has_begun or self._is_ending or self.doomed or not is_usable(self._connection):
            return False
        was_ended = False
        match self._backend.state(driver_connection(self._connection)):
            case TransactionState.NONE:
                was_ended = not self._backend.took_back(driver_connection(self._connection), error)
            case TransactionState.OPEN:
                self._let_go()
                was_ended = not self._backend.is_still(self._connection, self._action_id)
        if was_ended:
            self._connection.info[UNCLEAN] = True
        return was_ended

    def rollback(self) -> None:
        """Undo everything. Raises the driver's error if the connection is lost."""
        try:
            self._let_go()
            if is_usable(self._connection):
                self._backend.rollback(self._connection)
        finally:
            self.close()

    def _let_go(self) -> None:
        """The connection is the gateway's alone again."""
        if is_usable(self._connection):
            self._connection.info.pop(ACTING, None)
            self._backend.watch(self._connection, None)

    def is_at_rest(self) -> bool:
        """Whether the driver is not in the middle of an answer."""
        return self._backend.is_at_rest(driver_connection(self._connection))

    def before_statement(self, statement: str, values: Any) -> str:
        """Called before each statement that SQLAlchemy sends; what is to be sent in its stead."""
        rider = None
        if self._rider and statement.startswith(("SAVEPOINT", "RELEASE")):
            rider, self._rider = self._rider, None
        self._check(statement)
        self._sent = statement
        if statement.startswith(_SAVEPOINT):
            self._savepoints[statement.removeprefix(_SAVEPOINT)] = self._mark()
        return f"{statement}; {rider}" if rider else statement

    def allow(self, statement: str) -> None:
        """Called before each statement of the driver's own cursors; for SQLAlchemy's they work too. Raises Misuse."""
        sent, self._sent = self._sent, None
        if statement is not sent:
            self._check(statement)

    def _check(self, statement: str) -> None:
        """Raise Misuse for a statement that would end the transaction.

        After a database has rolled back by itself there is none, and a statement would commit on its own.
        """
        if not self.is_open:
            raise Misuse(f"a statement {_IS_OVER}")
        if self._backend.state(self._dbapi) is TransactionState.NONE:
            raise Misuse(_ROLLED_BACK_ALREADY)
        reading = read(statement)
        if reading.ends:
            raise Misuse(_ends(reading.ends))
        if reading.outlasts:
            self._connection.info[UNCLEAN] = True

    def refusal(self, error: BaseException) -> BaseException | None:
        """What is to be raised for a driver's error that only says that the database was not let do something."""
        if struck := self._backend.interruption(self._connection, error):
            return struck
        if self.refused is None or isinstance(error, Misuse) or not self._backend.is_denial(error):
            return None
        return Misuse(_ends(self.refused))

    def _mark(self) -> tuple[int, int]:
        return len(self.nested), len(self.queued)

    def release_savepoint(self, name: str) -> None:
        """Called when a savepoint was released."""
        self._savepoints.pop(name, None)

    def rollback_savepoint(self, name: str) -> None:
        """Called when a savepoint was rolled back: its nested actions did not succeed."""
        self._rider = None
        nested, queued = self._savepoints.pop(name, self._mark())
        for number, row in enumerate(self.nested[nested:], start=nested):
            if row.status == "succeeded":
                self.nested[number] = row._replace(status="failed", result=None, error=_ROLLED_BACK)
        for dropped in self.queued[queued:]:
            self.nested.append(dropped.withdrawn._replace(error=_ROLLED_BACK))
        del self.queued[queued:]

    def close(self) -> None:
        """Close the session for good; nothing can be sent through it any more. Any number of times.

        Refused first, and closed then: what listens to the session's end is told that it comes too late.
        """
        self.is_open = False
        session, self._session = self._session, None
        if session is None:
            return
        session.__dict__.update(_CLOSED)
        info = self._connection.info if is_usable(self._connection) else {}
        info[ACTING] = self
        is_nested = session.get_nested_transaction() is not None
        try:
            type(session).close(session)
        except Exception as error:
            # SQLAlchemy would end a savepoint that was left open, or a transaction that is lost: both are over.
            is_expected = is_nested or self._backend.is_lost(error, self._connection)
            log.log(logging.DEBUG if is_expected else logging.ERROR, _AT_THE_END, exc_info=True)
        finally:
            info.pop(ACTING, None)


def _ends(word: str) -> str:
    return (
        f"{word} inside of a handler: an action's transaction is the gateway's to begin and end; use "
        "session.begin_nested() for a part that may fail"
    )


_ROLLED_BACK = dumps(
    {"type": class_name(Misuse), "message": "rolled back together with a savepoint of the action that caused it"}
)


_ROLLED_BACK_ALREADY: Final = (
    "a database error was caught, but it had rolled the transaction back; "
    "put what may fail inside `with session.begin_nested():`"
)
_THE_GATEWAYS: Final = (
    "is the gateway's to call: an action's writes and its outcome are one transaction; "
    "use `with session.begin_nested():` for a part that may fail on its own"
)
_AT_THE_END: Final = "what listens to the end of an action's session failed"
_IS_OVER: Final = (
    "comes too late: the action has ended, and so has its transaction; what cleans up after a `yield` runs before that"
)
_WAYS_IN: Final = ("connection", "execute", "scalar", "scalars", "flush", "begin", "begin_nested", "get", "query")


def _refusing(message: str) -> Callable[..., NoReturn]:
    def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise Misuse(message)

    return refuse


_SAVEPOINT: Final = "SAVEPOINT "
_THE_GATEWAYS_OWN: Final = {
    name: _refusing(f"session.{name}() {_THE_GATEWAYS}")
    for name in ("commit", "rollback", "close", "invalidate", "reset")
}
_CLOSED: Final = {name: _refusing(f"session.{name}() {_IS_OVER}") for name in _WAYS_IN}
"""Methods of a handler's session, in its stead: while the action runs, and once it has ended."""
