"""Whether a session of the server stays with its client on PostgreSQL. Asked by `storage.postgresql`, once per bus.

A pooler that hands its sessions out by the transaction (PgBouncer with pool_mode = transaction or statement) can look
perfect: statements that another client prepared are there, and locks are taken, in somebody else's session, where
nobody gives them back. What is sure about it:

1. Connected directly, the process that the server named when the connection began is the one that answers. A pooler
   makes that number up. So where the two are equal there is nothing to find out, at the price of no question.
2. Otherwise a session that answers one connection as another process than a moment ago, or that answers a second
   connection while the first is there, does not stay. In session mode neither can be.
3. That a pooler of transactions shows neither takes luck, or others who use it at that very moment: when the first
   connection is idle its session is free, and is the first to be given out again, or the last. Hence the questions come
   twice from one connection and then from the other, several times. It is no proof.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import psycopg2

from actionbus.core.errors import JournalUnavailable

log = logging.getLogger("actionbus")
POOLED: Final = (
    "this is a pooler that hands out sessions by the transaction (PgBouncer, pool_mode = transaction): the lock of "
    "a running action and prepared statements belong to a session, so that they would be left in somebody else's. "
    "Nothing was run; set pool_mode = session for this database, or connect to the server directly"
)
_ROUNDS: Final = 5
_PATIENCE_S: Final = 2.0
_ASK: Final = "SELECT pg_catalog.pg_backend_pid()"


def see_that_it_stays(dbapi: Any, another: Callable[[], Any]) -> None:
    """Raises JournalUnavailable where sessions are handed out by the transaction.

    `dbapi` is a driver's connection in autocommit mode, `another` makes a second one like it, as a pool gives it.
    """
    if _answering(dbapi) == dbapi.info.backend_pid:
        return
    asking = _Second(another)
    asking.start()
    own = {_answering(dbapi) for _ in range(2)}
    try:
        for _ in range(_ROUNDS):
            theirs = asking.answers()
            own |= {_answering(dbapi) for _ in range(2)}
            if theirs is None:
                break
            if len(own) > 1 or theirs in own:
                raise JournalUnavailable(POOLED)
        if len(own) > 1:
            raise JournalUnavailable(POOLED)
    finally:
        asking.close()


def _answering(dbapi: Any) -> int:
    cursor: Any = psycopg2.extensions.cursor(dbapi)
    cursor.execute(_ASK)
    return int(cursor.fetchone()[0])


class _Second(threading.Thread):
    """A second connection, in a thread of its own: where the pooler has one session for all it never answers."""

    def __init__(self, another: Callable[[], Any]) -> None:
        super().__init__(name="actionbus-sessions", daemon=True)
        self._another = another
        self._asked = threading.Semaphore(0)
        self._answered = threading.Semaphore(0)
        self._is_over = False
        self._found: int | None = None

    def run(self) -> None:
        """Answer as often as is asked."""
        try:
            pooled = self._another()
            try:
                pooled.dbapi_connection.autocommit = True
                while self._asked.acquire() and not self._is_over:
                    self._found = _answering(pooled.dbapi_connection)
                    self._answered.release()
            finally:
                pooled.close()
        except Exception as error:
            log.warning("whether the pooler keeps sessions could not be found out: %s", type(error).__name__)

    def answers(self) -> int | None:
        """Which process answers it; None if none does, since the first connection has the only session."""
        self._asked.release()
        return self._found if self._answered.acquire(timeout=_PATIENCE_S) else None

    def close(self) -> None:
        """End it; one that waits ends with the session that it waits for."""
        self._is_over = True
        self._asked.release()
