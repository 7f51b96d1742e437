"""Runs statements of ours on a connection: inside a transaction that is open, or two of which one guards the other."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from actionbus.core.storage.backend import Backend
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.rows import Statement


def run_inside(backend: Backend, connection: Connection, statement: Statement) -> Any:
    """The result of a statement in the transaction of whoever has the connection."""
    return connection.exec_driver_sql(_placed(backend, statement), statement.values)


def run_if(backend: Backend, connection: Connection, first: Statement, then: Statement) -> bool:
    """Run `first` and, if it changed a row, `then`, in one transaction of their own; whether it did."""
    cursor = driver_connection(connection).cursor()
    cursor.execute("BEGIN IMMEDIATE" if backend.has_one_writer else "BEGIN ISOLATION LEVEL READ COMMITTED")
    try:
        cursor.execute(_placed(backend, first), first.values)
        if changed := bool(cursor.rowcount > 0):
            cursor.execute(_placed(backend, then), then.values)
        cursor.execute("COMMIT")
        return changed
    except BaseException:
        backend.rollback(connection)
        raise


def _placed(backend: Backend, statement: Statement) -> str:
    if backend.has_one_writer:
        return statement.sql.replace("{schema}", backend.prefix)
    return statement.sql.replace("?", "%s").replace("{schema}", backend.prefix.replace("%", "%%"))
