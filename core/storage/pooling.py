"""What the gateway notes on pooled connections, and what becomes of them when the pool has them back.

`storage.connections` and the backends note whose a connection is; `gateway.transaction` which action runs on it.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

from actionbus.core.errors import Misuse
from actionbus.core.storage.drivers import is_usable

GATEWAY: Final = "actionbus.gateway"
"""Where a connection's `info` holds whose it is, a backend's, and how its driver was set before."""
UNCLEAN: Final = "actionbus.unclean"
"""Where a connection's `info` holds that a handler has changed what cannot be put back: it is not to be used again."""
ACTING: Final = "actionbus.transaction"
"""Where a connection's `info` holds the action transaction that runs on it."""
HOLDING: Final = "actionbus.holding"
"""Where a connection's `info` holds the id of the action whose lock it has."""

_of_parents: list[Any] = []
"""In a forked child: drivers' connections of its parent, kept because to close one would say so to the database."""


def watch_pool(engine: Engine) -> None:
    """Called for the engine of each bus: look after the connections that its pool gets back."""
    if not event.contains(engine, "reset", _given_back):
        event.listen(engine, "reset", _given_back)
        event.listen(engine, "checkout", _checked_out)
        event.listen(engine, "detach", _detached)


def _given_back(dbapi: Any, record: Any, _state: Any) -> None:
    """Called by the pool for every connection that comes back, however it came to that.

    An action that was interrupted at a bad moment, or whose handler gave the connection away, leaves its transaction
    open, and with it the next action's submitted record would be rolled back. Should this fail, or be interrupted
    itself, the pool throws the connection away.
    """
    if record is not None:  # else it was detached, see `_detached`
        put_back(dbapi, record.info)


def put_back(dbapi: Any, info: dict[Any, Any]) -> None:
    """Leave a connection as it was before it was the gateway's, or note that nobody is to have it."""
    transaction = info.pop(ACTING, None)
    if transaction is not None:
        transaction.is_open = False
    if GATEWAY in info:
        backend, mode = info[GATEWAY]
        is_clean = backend.give_back(dbapi, info, mode)
        info.pop(HOLDING, None)
        del info[GATEWAY]
        if not is_clean:
            info[UNCLEAN] = True


def _checked_out(_dbapi: Any, record: Any, _proxy: Any) -> None:
    """Called by the pool before it hands a connection out: one that nobody else is to have is closed, another made.

    Here and not when the pool gets it back, since SQLAlchemy loses a place of the pool if that is interrupted.
    """
    if UNCLEAN in record.info:
        raise DisconnectionError("a handler has changed what cannot be put back")


def leave_to_parent(connection: Connection) -> None:
    """In a forked child: make a connection unusable, and say nothing to the database, to which the parent speaks."""
    if is_usable(connection):
        connection.info.pop(ACTING, None)  # an action's would be closed, see `_detached`
        fairy = connection.connection
        _of_parents.append(fairy.dbapi_connection)
        connection.detach()
        fairy.dbapi_connection = None  # type: ignore[misc]


def keep_for_parent(fairy: Any) -> None:
    """In a forked child: keep a pool's connection of the parent's that nobody uses, so that nothing is said over it."""
    _of_parents.append(fairy)


def _detached(dbapi: Any, record: Any) -> None:
    """Called by the pool when somebody takes a connection out of it for good: not with an action on it."""
    transaction = record.info.pop(ACTING, None)
    if transaction is not None:
        dbapi.close()
        transaction.connection.invalidate()
        raise Misuse(
            "the action's connection was detached from its pool inside of its handler, and was closed, with what was "
            "written; leave the connection to the gateway"
        )
