"""What lies below a SQLAlchemy connection; used by `storage.backend`, the backends and `gateway.sql_events`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import StatementError
from sqlalchemy.pool import PoolProxiedConnection

from actionbus.core.storage.sqlalchemy_inside import stands_upon

_pooled: Any = Connection.connection.fget  # type: ignore[attr-defined]


def pooled(connection: Connection) -> PoolProxiedConnection:
    """The pool's connection below SQLAlchemy's, past what notices a handler that asks for it."""
    found: PoolProxiedConnection = _pooled(connection)
    return found


def driver_connection(connection: Connection) -> Any:
    """The driver's own connection below SQLAlchemy's."""
    return _pooled(connection).dbapi_connection


def is_usable(connection: Connection) -> bool:
    """Whether there is a driver's connection below it that is still its own."""
    return stands_upon(connection) is not None


def usable(connection: Connection) -> Connection | None:
    """The connection while it is usable, or None, for what takes one of its own then."""
    return connection if is_usable(connection) else None


def driver_error(error: BaseException) -> BaseException:
    """The driver's error that SQLAlchemy wrapped; any other is itself, of whose attributes nothing is known."""
    return (error.orig if isinstance(error, StatementError) else None) or error
