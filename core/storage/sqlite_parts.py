"""Chunks of actions on SQLite: their parts in one transaction, each outcome written at the end of its part.

There is one writer, so that nobody is kept from reading by a position that is drawn before the commit; and the next
part sees what the journal tells of this one, as it would if that were committed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.errors import Misuse
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.parts import POINT, Parts
from actionbus.core.storage.pooling import UNCLEAN
from actionbus.core.storage.rows import Row, Statement
from actionbus.core.storage.sqlite_guard import COMMIT, MARK
from actionbus.core.storage.sqlite_images import RANGES, Ranges
from actionbus.core.storage.statements import ENDED_INSIDE

Append = Callable[[Connection, Sequence[Row], UUID, Sequence[Statement]], int]


class SQLiteParts(Parts):
    """One transaction of several actions; the functions are those of the backend."""

    def __init__(
        self,
        connection: Connection,
        isolation: str,
        append: Append,
        require_mark: Callable[[sqlite3.Connection], None],
        release: Callable[[Connection, UUID], None],
    ) -> None:
        super().__init__(connection, isolation)
        self._append = append
        self._require_mark = require_mark
        self._release = release
        self._positions: list[int] = []
        connection.info.pop(RANGES, None)

    @property
    def must_end(self) -> bool:
        return UNCLEAN in self._connection.info

    def _begin(self) -> None:
        dbapi = driver_connection(self._connection)
        if not self.has_begun:
            dbapi.execute("BEGIN IMMEDIATE")
            self.has_begun = True
            dbapi.execute(f"SAVEPOINT {MARK}")
        self._connection.info[RANGES] = Ranges(dbapi)

    def enter(self, action_id: UUID) -> str:
        self._begin()
        dbapi = driver_connection(self._connection)
        dbapi.execute(f"SAVEPOINT {POINT}")
        if self._positions:  # nobody else has written since
            return str(self._positions[-1])
        return str(dbapi.execute("SELECT coalesce(max(position), 0) FROM main.journal").fetchone()[0])

    def leave(self, action_id: UUID) -> None:
        self._execute(f"RELEASE {POINT}")

    def settle(self) -> None:
        """Parts end by themselves here: nothing is saved by waiting with that."""

    def undo(self) -> None:
        if RANGES in self._connection.info:
            self._execute(f"ROLLBACK TO {POINT}")
            self._execute(f"RELEASE {POINT}")

    def _execute(self, statement: str) -> None:
        try:
            driver_connection(self._connection).execute(statement)
        except sqlite3.OperationalError as error:
            if "no such savepoint" not in str(error):
                raise
            self._connection.info[UNCLEAN] = True
            raise Misuse(ENDED_INSIDE) from error

    def append(self, action_id: UUID, rows: Sequence[Row], also: Sequence[Statement]) -> None:
        if RANGES not in self._connection.info:  # it used no session
            self._begin()
        self._positions.append(self._append(self._connection, rows, action_id, also))

    def commit(self, lock: UUID | None) -> list[int]:
        dbapi = driver_connection(self._connection)
        self._require_mark(dbapi)
        dbapi.execute(COMMIT)
        if lock is not None:
            self._release(self._connection, lock)
        return self._positions
