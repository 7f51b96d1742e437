"""What SQLite asks before it prepares a statement on a connection of the gateway's. Used by `storage.sqlite`.

An authorizer is the one place that sqlite3 leaves to stand in: whatever sends a statement, be it `commit()`, a cursor
of the driver's own, `executescript` or `with connection:`, it is asked, and by what the statement does, not by how it
is written. It is not asked for what is prepared already, hence the gateway's own words for COMMIT are nobody else's.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.pool import PoolProxiedConnection

from actionbus.core.storage.backend import quoted
from actionbus.core.storage.drivers import pooled
from actionbus.core.storage.parts import POINT
from actionbus.core.storage.pooling import UNCLEAN

MARK: Final = "actionbus_begun"
"""The savepoint that tells whether a transaction is still the one that was begun."""
COMMIT: Final = "COMMIT -- the gateway's"
DENIED: Final = "not authorized"
"""What SQLite says of a statement that it was not let prepare."""
_GUARD: Final = "actionbus.guard"
_CREATES: Final = {
    sqlite3.SQLITE_CREATE_TABLE: "TABLE",
    sqlite3.SQLITE_CREATE_TEMP_TABLE: "TABLE",
    sqlite3.SQLITE_CREATE_VIEW: "VIEW",
    sqlite3.SQLITE_CREATE_TEMP_VIEW: "VIEW",
    sqlite3.SQLITE_CREATE_TRIGGER: "TRIGGER",
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER: "TRIGGER",
}
_FILES: Final = (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
_ENDS: Final = (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT)
_ASKED: Final = frozenset({*_ENDS, sqlite3.SQLITE_PRAGMA, *_FILES, *_CREATES})
_READING_PRAGMAS: Final = ("_info", "_xinfo", "_list", "_check", "defer_foreign_keys")
_OURS: Final = ("sqlalchemy.", "actionbus.core.")
_LIMITS: Final = range(sqlite3.SQLITE_LIMIT_LENGTH, sqlite3.SQLITE_LIMIT_WORKER_THREADS + 1)


class Guard:
    """The authorizer of one connection, and what is to be put back on it where it cannot be closed."""

    def __init__(self, dbapi: Any) -> None:
        self._dbapi: Any = None
        self._transaction: Any = None
        self._info: Any = {}
        self._factories = dbapi.row_factory, dbapi.text_factory
        self._limits = [dbapi.getlimit(limit) for limit in _LIMITS]
        self._temporary: list[tuple[str, str]] = []
        self._interruption: BaseException | None = None
        self.synchronous: str | None = None
        """To what `PRAGMA synchronous` was set last, as it was written; None as long as the guard was not asked."""
        self.is_unsynced = False
        """Whether commits do not wait for the disk just now, and are to do so again; see `storage.sqlite_unsynced`."""

    @classmethod
    def of(cls, info: Any, dbapi: Any) -> Guard:
        """The connection's own, from its `info`; a new one is set on the connection."""
        found: Guard | None = info.get(_GUARD)
        if found is None:
            found = info[_GUARD] = cls(dbapi)
            dbapi.set_authorizer(found)
        return found

    def watch(self, connection: Connection, dbapi: Any, info: Any, transaction: Any) -> None:
        """Let statements be asked for on behalf of `transaction`."""
        self._factories = dbapi.row_factory, dbapi.text_factory
        self._dbapi, self._info, self._transaction = dbapi, info, transaction
        connection.__class__ = _Noticing

    def let_go(self, dbapi: Any) -> None:
        """Nobody but the gateway is to speak on the connection, and whatever was set, it can."""
        if self._transaction is None:
            return
        is_unclean = UNCLEAN in self._info
        self._dbapi = self._transaction = None
        dbapi.row_factory, dbapi.text_factory = self._factories
        if is_unclean:
            with suppress(sqlite3.ProgrammingError):  # it was closed
                self._put_back(dbapi)

    def _put_back(self, dbapi: Any) -> None:
        dbapi.set_progress_handler(None, 0)
        dbapi.set_trace_callback(None)
        dbapi.set_authorizer(self)  # also makes SQLite ask anew for what is prepared
        for number, limit in zip(_LIMITS, self._limits, strict=True):
            dbapi.setlimit(number, limit)
        dbapi.execute("PRAGMA query_only=OFF")

    def drop(self, dbapi: Any) -> None:
        """Drop what is temporary, on a connection that cannot be closed since it is the database."""
        while self._temporary:
            kind, name = self._temporary.pop()
            dbapi.execute(f"DROP {kind} IF EXISTS temp.{quoted(name)}")

    def interruption(self) -> BaseException | None:
        """What struck while SQLite asked; sqlite3 makes a denial of it. Before the answer's first line it is lost."""
        struck, self._interruption = self._interruption, None
        return struck

    def __call__(self, code: int, first: str | None, second: str | None, database: str | None, _: str | None) -> int:
        """SQLite's question: what a statement does, to what, by what name."""
        try:
            return self._answer(code, first, second, database)
        except BaseException as error:
            self._interruption = error
            return sqlite3.SQLITE_DENY

    def _answer(self, code: int, first: str | None, second: str | None, database: str | None) -> int:
        if self._transaction is None:
            if code == sqlite3.SQLITE_PRAGMA and second is not None and str(first).lower() == "synchronous":
                self.synchronous = second
            return sqlite3.SQLITE_OK
        if not self._dbapi.in_transaction:  # it was rolled back, and what comes now would be committed by itself
            return sqlite3.SQLITE_DENY
        if code not in _ASKED:
            return sqlite3.SQLITE_OK
        if first == "ROLLBACK" and second is None and self._transaction.doomed:
            # Of a part, the gateway rolls back no more than that: SQLite makes a statement of this that does nothing.
            return sqlite3.SQLITE_IGNORE if self._transaction.is_part else sqlite3.SQLITE_OK
        if code == sqlite3.SQLITE_TRANSACTION or (code == sqlite3.SQLITE_SAVEPOINT and second in (MARK, POINT)):
            self._transaction.refused = first
            return sqlite3.SQLITE_DENY
        if code in _CREATES and database == "temp":
            self._temporary.append((_CREATES[code], str(first)))
            self._info[UNCLEAN] = True
        sets = code == sqlite3.SQLITE_PRAGMA and second is not None and not str(first).endswith(_READING_PRAGMAS)
        if sets or code in _FILES:
            self._info[UNCLEAN] = True
        return sqlite3.SQLITE_OK


class _Noticing(Connection):
    """A connection that notices when the driver's is asked for: functions, limits and the like can be set on that, and
    cannot be read from it."""

    @property
    def connection(self) -> PoolProxiedConnection:
        """The pool's connection; whose asking is told by the module it comes from."""
        if not sys._getframe(1).f_globals.get("__name__", "").startswith(_OURS):
            self.info[UNCLEAN] = True
        return pooled(self)

    @property
    def info(self) -> Any:
        """As ever; SQLAlchemy asks for the pool's connection in its own name."""
        return pooled(self).info
