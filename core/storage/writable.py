"""Whether a database lets anybody write. Asked by `gateway.preview`, which would take a refusal for a failure."""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy import Connection

from actionbus.core.errors import JournalUnavailable
from actionbus.core.storage.drivers import driver_connection

_WHY: Final = "nothing was previewed, since an action is run for that and rolled back, and"
_STANDBY: Final = f"{_WHY} this is a standby server, which refuses writes; preview it on the primary"
_READ_ONLY: Final = (
    f"{_WHY} the database refuses writes: default_transaction_read_only is on for this role, database or server; "
    "preview it as a role that may write, or ALTER ROLE … SET default_transaction_read_only = off"
)
_FILE: Final = f"{_WHY} the database's file is not open for writing; open it so, or preview it on a copy"
_NOTHING: Final = "DELETE FROM main.actionbus_totals WHERE 0"
"""Writes no row, and is refused all the same where none may be written."""


def require_writable(connection: Connection) -> None:
    """Raises JournalUnavailable, which says why and where else to go. The connection is outside of any transaction."""
    cursor = driver_connection(connection).cursor()
    if connection.dialect.name == "postgresql":
        cursor.execute("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')")
        is_standby, is_read_only = cursor.fetchone()
        if is_standby or is_read_only == "on":
            raise JournalUnavailable(_STANDBY if is_standby else _READ_ONLY)
        return
    try:
        cursor.execute(_NOTHING)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
            raise
        raise JournalUnavailable(_FILE) from error
