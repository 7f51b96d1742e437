"""KeptConnections: connections that wait for the next action here instead of in the pool, which takes longer over it.

To the pool they are taken: it is asked again only when there is none here. So they must not be missed there: whoever
would wait for the pool, or make it open one more, has one of these given back to it first, and none is kept while
anybody asks the pool, or while it has more connections open than it keeps itself. `storage.connections` keeps those of
an engine that the bus made itself; the pool of another may do things of its own to what it hands out.

A connection is left here just as the pool would leave it (`storage.pooling`), or not left here at all.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import Pool, PoolProxiedConnection, QueuePool

from actionbus.core.storage.drivers import is_usable
from actionbus.core.storage.pooling import UNCLEAN, keep_for_parent, put_back
from actionbus.core.storage.sqlalchemy_inside import left_taken


class Forks(Protocol):
    """What has connections: a `storage.backend.Backend`."""

    kept: KeptConnections | None

    def renew_pool(self, *, close: bool = True) -> None:
        """Let go of those that the pool has."""


def survive_fork(backend: Forks) -> None:
    """A forked child must not use its parent's connections: it gets a fresh pool."""
    reference = weakref.ref(backend)

    def renew() -> None:
        found = reference()
        if found is not None:
            if found.kept is not None:
                found.kept.leave_to_parent()
            found.renew_pool(close=False)

    os.register_at_fork(after_in_child=renew)


class KeptConnections:
    """Those of one engine. Any thread may take one, and leave another: a thread that ends keeps none."""

    def __init__(self, engine: Engine) -> None:
        self._idle: deque[PoolProxiedConnection] = deque()
        self._waiting: list[None] = []
        """One for each that asks the pool just now. Lists and deques, since their `append` and `pop` are one step."""
        self._stand_before(engine.pool)
        event.listen(engine, "engine_disposed", self._disposed)

    def take(self, engine: Engine) -> Connection | None:
        """A connection of `engine` upon one that was kept; None if there is none."""
        while self._idle:
            try:
                kept = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if kept.is_valid:
                return Connection(engine, kept)
        return None

    def leave(self, connection: Connection) -> bool:
        """Close a connection and keep what it stood upon; False if it is to be given back to the pool."""
        if self._waiting or self._pool.overflow() > 0 or connection.in_transaction() or not is_usable(connection):
            return False
        kept = connection.connection
        put_back(kept.dbapi_connection, kept.info)
        if UNCLEAN in kept.info or getattr(kept.dbapi_connection, "closed", False):  # which sqlite3 does not tell
            return False
        left_taken(connection)
        self._idle.append(kept)
        if self._waiting:  # somebody asked meanwhile, and found nothing here
            self._give_one_back()
        return True

    def leave_to_parent(self) -> None:
        """In a forked child: they are its parent's, and nothing is said to the database over them."""
        self._waiting = []
        while self._idle:
            keep_for_parent(self._idle.pop())

    def _give_one_back(self) -> None:
        try:
            self._idle.pop().close()
        except IndexError:
            return

    def _stand_before(self, pool: Pool) -> None:
        """A pool tells nobody that it is asked, hence the replaced method."""
        assert isinstance(pool, QueuePool)
        self._pool = pool
        connect: Callable[[], PoolProxiedConnection] = pool.connect

        def connect_with_ours() -> PoolProxiedConnection:
            waiting = self._waiting
            waiting.append(None)
            try:
                if self._idle and not pool.checkedin():
                    self._give_one_back()
                return connect()
            finally:
                waiting.pop()

        pool.connect = connect_with_ours  # type: ignore[method-assign]

    def _disposed(self, engine: Any) -> None:
        """The engine has a new pool: connections of the old one are not used again."""
        while self._idle:
            try:
                kept = self._idle.pop()
            except IndexError:
                break
            kept.invalidate()
        self._stand_before(engine.pool)
