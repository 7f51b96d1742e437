"""SQLAlchemy event listeners on the gateway's engine (`storage.connections`): they guard the action's transaction.

Installed once by the Bus; a connection that runs no action passes through untouched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.sql.dml import Insert

from actionbus.core.errors import Misuse
from actionbus.core.storage.pooling import ACTING
from actionbus.core.storage.sqlalchemy_inside import stands_upon


class Listens(Protocol):
    """What is told what happens on its connection: `gateway.transaction` answers."""

    doomed: bool

    def imposed(
        self, statement: Insert, many: Sequence[Mapping[str, Any]]
    ) -> tuple[Insert, Sequence[Mapping[str, Any]]]:
        """Before an INSERT: it, and its values, as they are to be sent."""

    def before_statement(self, statement: str, params: Any) -> str:
        """Before each statement: it as it is to be sent. Raises Misuse for what a handler may not say."""

    def is_at_rest(self) -> bool:
        """Whether no statement is under way."""

    def refusal(self, error: BaseException | None) -> BaseException | None:
        """What to raise instead of a driver's error that only says that something is refused."""

    def rollback_savepoint(self, name: str) -> None:
        """What came after a savepoint is rolled back."""

    def release_savepoint(self, name: str) -> None:
        """A savepoint is given up, what came after it kept."""


def install(engine: Engine) -> None:
    """Listen on `engine` and on the connections made through it."""
    event.listen(engine, "before_execute", _before_execute, retval=True)
    event.listen(engine, "before_cursor_execute", _before_cursor_execute, retval=True)
    event.listen(engine, "handle_error", _tell_refusal)
    if not event.contains(engine, "handle_error", _keep_through_interruption):  # the dialect's, which others may share
        event.listen(engine, "handle_error", _keep_through_interruption)
    event.listen(engine, "set_connection_execution_options", _refuse_isolation)
    event.listen(engine, "commit", _refuse_commit)
    event.listen(engine, "rollback", _rolled_back)
    event.listen(engine, "rollback_savepoint", _rolled_back_to)
    event.listen(engine, "release_savepoint", _released)


def _transaction(connection: Connection) -> Listens | None:
    below = stands_upon(connection)
    return None if below is None else below.info.get(ACTING)


def _before_execute(
    connection: Connection, statement: Any, many: Any, params: Any, options: Any
) -> tuple[Any, Any, Any]:
    if isinstance(statement, Insert) and (transaction := _transaction(connection)):
        given = many or ([params] if params else [])
        statement, told = transaction.imposed(statement, given)
        if told is not given:
            return statement, told, {}
    return statement, many, params


def _before_cursor_execute(
    connection: Connection, cursor: Any, statement: str, params: Any, context: Any, many: bool
) -> tuple[str, Any]:
    transaction = _transaction(connection)
    if transaction is None:
        return statement, params
    return transaction.before_statement(statement, params), params


def _refuse_commit(connection: Connection) -> None:
    if _transaction(connection):
        raise Misuse(
            "an action is committed by the gateway, with its outcome; use session.begin_nested() for a part of it"
        )


def _refuse_isolation(connection: Connection, options: dict[str, Any]) -> None:
    if "isolation_level" in options and _transaction(connection):
        raise Misuse(
            "the isolation of an action's transaction is declared on its handler, such as isolation = 'SERIALIZABLE'; "
            "it cannot be changed once the action runs"
        )


def _tell_refusal(context: ExceptionContext) -> None:
    """Say what is refused, and why, where the driver only says that it is."""
    transaction = _transaction(context.connection) if context.connection is not None else None
    if transaction is not None and (refusal := transaction.refusal(context.original_exception)):
        raise refusal


def _keep_through_interruption(context: ExceptionContext) -> None:
    """Keep a connection that an interruption (Ctrl-C, a watchdog's exception) did not hurt.

    SQLAlchemy gives up every connection on which it strikes, as an asynchronous driver might leave it in the middle of
    an answer. With SQLite a connection that is given up keeps its write lock while any cursor is left; and a new one
    would have to wait for it.
    """
    connection = context.connection
    if connection is None or isinstance(context.original_exception, Exception):
        return
    transaction = _transaction(connection)
    if transaction is not None and transaction.is_at_rest():
        context.is_disconnect = False


def _rolled_back(connection: Connection) -> None:
    if transaction := _transaction(connection):
        transaction.doomed = True


def _rolled_back_to(connection: Connection, name: str, _context: Any) -> None:
    if transaction := _transaction(connection):
        transaction.rollback_savepoint(name)


def _released(connection: Connection, name: str, _context: Any) -> None:
    if transaction := _transaction(connection):
        transaction.release_savepoint(name)
