"""What an action may leave on its connection: rolled back, given up, or left to the process that it was forked from."""

from __future__ import annotations

import os
from contextlib import suppress

from sqlalchemy import Connection

from actionbus.core.gateway.inside import running
from actionbus.core.gateway.transaction import ActionTransaction
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.drivers import is_usable
from actionbus.core.storage.pooling import ACTING, leave_to_parent


def _leave_to_parent() -> None:
    """In a child that was forked inside a handler: the action, and the connection that it has, are the parent's."""
    if (here := running()) is not None:
        leave_to_parent(here.transaction.connection)


os.register_at_fork(after_in_child=_leave_to_parent)


def rolled_back(transaction: ActionTransaction, connection: Connection) -> bool:
    """Roll back, so that the error which led here is the one that is told; a connection that cannot is thrown away."""
    try:
        transaction.rollback()
    except Exception:
        if not connection.closed:
            connection.invalidate()
        return False
    return True


def leave_nothing_open(backend: Backend, connection: Connection) -> None:
    """Roll back what an interruption left open where nobody held it: the outcome must not join that."""
    if not is_usable(connection):
        return
    left: ActionTransaction | None = connection.info.get(ACTING)
    try:
        if left is not None:
            left.rollback()
        else:
            backend.watch(connection, None)  # what struck may have struck just before this
            backend.rollback(connection)
    except Exception:
        connection.invalidate()


def give_up(backend: Backend, connection: Connection) -> None:
    """Throw a connection away, so that the pool has its place back and the database what it held."""
    if is_usable(connection):
        with suppress(Exception):
            backend.rollback(connection)  # a driver's connection may outlive this while a traceback has its cursor
    if not connection.closed:
        connection.invalidate()
