"""What a database's error means for the client: lost, not set up, a value that is there already, or none of these."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

import psycopg2
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

_LOST: Final = ("08", "53", "57P01", "57P02", "57P03")
"""SQLSTATEs, or their classes: connection, resources (such as too many connections), shutdown and start."""
_SQLITE_AWAY: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL")
_NO_TABLE: Final = ("42P01", "3F000")
_OPERATIONAL: Final = (psycopg2.OperationalError, psycopg2.InterfaceError, sqlite3.OperationalError)
_UNIQUE: Final = ("23505", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")


_Error = DBAPIError | NoConnectionFree | psycopg2.Error | sqlite3.Error
"""SQLAlchemy's, or the driver's own where the gateway uses that."""


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or there is none to be had."""
    if isinstance(error, NoConnectionFree) or getattr(error, "connection_invalidated", False):
        return True
    original = getattr(error, "orig", None) or error
    if not isinstance(error, (OperationalError, InterfaceError)) and not isinstance(original, _OPERATIONAL):
        return False
    code = _code(error)
    return code is None or code.startswith((*_LOST, *_SQLITE_AWAY))


def lacks_a_table(error: BaseException) -> bool:
    """Whether a table that should be there is not."""
    original = getattr(error, "orig", None) or error
    return isinstance(error, _Error) and (_code(error) in _NO_TABLE or str(original).startswith("no such table"))


def is_taken(error: BaseException) -> bool:
    """Whether a value that must be unique is there already; for errors of the driver itself too."""
    return _code(error) in _UNIQUE


def was_taken(told: dict[str, Any]) -> bool:
    """The same of an error as an outcome keeps it."""
    message = str(told.get("message", ""))
    return told.get("sqlstate") in _UNIQUE or "(sqlite3.IntegrityError) UNIQUE constraint failed" in message


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]


def is_of_database(error: BaseException) -> bool:
    """Whether it is a database's own."""
    return isinstance(error, _Error)


def of_database(error: BaseException) -> BaseException | None:
    """The database's error that an error came of, or None."""
    return next((each for each in chain(error) if isinstance(each, _Error)), None)


def _code(error: BaseException) -> str | None:
    original = getattr(error, "orig", None) or error
    code = getattr(original, "pgcode", None) or getattr(original, "sqlite_errorname", None)
    return code if isinstance(code, str) else None
