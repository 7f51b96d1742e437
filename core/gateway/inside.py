"""Knows which action's handler runs here, and refuses every second connection to the action's database inside it.

`gateway.execution` enters `handling` around a handler, and the Bus has its engine watched. What is declared `outside`
may have a connection of its own (`declare.reaching`). What is noticed: a connection taken from any engine of this
process, a statement or COMMIT on one that was taken before, and an object added to a session that is bound to the
database otherwise. What is not: a driver's own connection (`psycopg2.connect`, `sqlite3.connect`; the testing kit and
the sandbox notice these), and threads that a handler starts without handing its context on.
"""

from __future__ import annotations

import sqlite3
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, object_mapper
from sqlalchemy.pool import Pool, PoolProxiedConnection, SingletonThreadPool, StaticPool

from actionbus.core.declare.reaching import OUTSIDE, is_reaching_out
from actionbus.core.errors import Misuse
from actionbus.core.gateway.transaction import ActionTransaction
from actionbus.core.secrecy.scrubbing import Scrubber, active
from actionbus.core.storage.drivers import is_usable
from actionbus.core.values.determinism import lock_key

_SECOND: Final = (
    "a handler has one connection to its database, the action's: what it writes over a second one would be no part of "
    "the action, whatever its outcome says. Take `session` (requires = ['session'], or a provider with a parameter of "
    "that name); declare a dependency that must have a connection of its own as `outside(…)`. A scoped session, such "
    "as Flask-SQLAlchemy's db.session, takes part once it is shared: actionbus.flask.share_session(db.session)"
)
_SHARED: Final = (
    "this SQLite database has one connection, which the running action holds; nothing else can use it before the "
    "action has ended. Take `session`, or use a database file"
)
_HOLDS_LOCK: Final = """SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint) = %s)"""
_APART: Final = "actionbus.apart"
"""In a connection's `info`: the address of a business database that it was found not to lead to."""


class Running:
    """An action whose handler runs."""

    __slots__ = ("action_id", "context", "engine", "over", "transaction")

    def __init__(self, transaction: ActionTransaction, engine: Engine, action_id: UUID | None) -> None:
        self.transaction, self.engine, self.action_id = transaction, engine, action_id
        self.context = copy_context()
        """Where the action began, for those who ask whether they are still there."""
        self.over = False
        """Set at the end, for contexts that were copied meanwhile and live on."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended: an interruption can keep the context from being set back, but not its transaction."""
        return self.over or not self.transaction.is_open

    def is_led_to(self, dbapi: Any, info: dict[Any, Any]) -> bool:
        """Whether a driver's connection leads to the action's database."""
        if not is_usable(self.transaction.connection):
            return False
        own: Any = self.transaction.connection.connection.dbapi_connection
        if dbapi is own:
            return True
        if isinstance(dbapi, sqlite3.Connection) and isinstance(own, sqlite3.Connection):
            return not _files(dbapi).isdisjoint(_files(own))
        theirs, ours = getattr(dbapi, "info", None), getattr(own, "info", None)
        if not hasattr(theirs, "backend_pid") or not hasattr(ours, "backend_pid"):
            return False
        return _address(theirs) == _address(ours) or self._has_its_lock_there(dbapi, info, ours)

    def _has_its_lock_there(self, dbapi: Any, info: dict[Any, Any], ours: Any) -> bool:
        """Ask the other server whether it knows the lock of this action: an address can be written in many ways, and
        a pooler has one of its own. Asked once per connection."""
        if self.action_id is None or info.get(_APART) == _address(ours):
            return False
        was_idle = dbapi.info.transaction_status == 0
        cursor = dbapi.cursor()
        try:
            cursor.execute(_HOLDS_LOCK, (ours.backend_pid, lock_key(self.action_id)))
            found = bool(cursor.fetchone()[0])
        except Exception:  # whatever that is, it is no PostgreSQL that could be ours
            found = False
        finally:
            cursor.close()
            if was_idle and not dbapi.autocommit:
                dbapi.rollback()
        if not found:
            info[_APART] = _address(ours)
        return found

    def is_reached_by(self, connection: Connection) -> bool:
        """Whether a connection is a second one to the action's database."""
        if connection is self.transaction.connection or not is_usable(connection):
            return False
        return self.is_led_to(connection.connection.dbapi_connection, connection.info)

    def is_bound_by(self, session: Session, instance: object) -> bool:
        """Whether a session would write an object into the action's database over a second connection."""
        try:
            bind = session.get_bind(object_mapper(instance))
        except Exception:  # it is bound to nothing, and will say so itself when it is to write
            return False
        if isinstance(bind, Connection):
            return self.is_reached_by(bind)
        return bind.pool is self.engine.pool or _same(bind.url, self.engine.url)


_running: ContextVar[Running | None] = ContextVar("actionbus_running", default=None)


def running() -> Running | None:
    """The action whose handler runs here."""
    found = _running.get()
    return None if found is None or found.is_over else found


class handling:  # noqa: N801 - a context manager, written out because every action enters it
    """While the block runs, a handler does: of `action_id`, or of an action nested in one whose handler runs already.

    None stands for no action: only a permission is asked, and there is no lock to be recognised by. What the engine
    logs meanwhile has none of the secrets that `scrubber` knows.
    """

    __slots__ = ("_own", "_running", "_scrubber", "_tokens")

    def __init__(
        self, transaction: ActionTransaction, engine: Engine, action_id: UUID | None, scrubber: Scrubber
    ) -> None:
        above = running()
        self._own = above is None or above.transaction is not transaction
        self._running = Running(transaction, engine, action_id) if self._own else above
        self._scrubber = scrubber

    def __enter__(self) -> None:
        self._tokens = _running.set(self._running), OUTSIDE.set(False), active.set(self._scrubber)

    def __exit__(self, *_: object) -> None:
        if self._own and self._running is not None:
            self._running.over = True
        _running.reset(self._tokens[0])
        OUTSIDE.reset(self._tokens[1])
        active.reset(self._tokens[2])


def watch(engine: Engine) -> None:
    """Called for the engine of each bus: notice what takes a second connection, from it or from any other engine."""
    if not event.contains(Pool, "checkout", _checkout):
        event.listen(Pool, "checkout", _checkout)
        event.listen(Engine, "before_cursor_execute", _before_statement)
        event.listen(Engine, "commit", _before_commit)
        event.listen(Session, "before_attach", _before_attach)
    _guard(engine.pool)
    event.listen(engine, "engine_disposed", _disposed)


def _guard(pool: Pool) -> None:
    """Refuse before the pool is asked: there might be no connection left to wait for, and one that is shared, as in
    memory, would be closed by a refusal on checkout. A pool has no event that comes so early, hence the replaced
    method."""
    connect = pool.connect
    if getattr(connect, "is_guarded", False):
        return
    is_shared = isinstance(pool, (StaticPool, SingletonThreadPool))

    def connect_unless_inside() -> PoolProxiedConnection:
        here = running()
        if here is not None and here.engine.pool is pool:
            if not is_reaching_out():
                raise Misuse(_SECOND)
            if is_shared:
                raise Misuse(_SHARED)
        return connect()

    connect_unless_inside.is_guarded = True  # type: ignore[attr-defined]
    pool.connect = connect_unless_inside  # type: ignore[method-assign]


def _disposed(engine: Engine) -> None:
    _guard(engine.pool)


def _here() -> Running | None:
    """The action whose handler runs here, unless it reaches out."""
    found = _running.get()
    return None if found is None or found.is_over or is_reaching_out() else found


def _checkout(dbapi: Any, record: Any, proxy: Any) -> None:
    if (here := _here()) is not None and here.is_led_to(dbapi, record.info):
        raise Misuse(_SECOND)


def _before_statement(connection: Connection, *_: Any) -> None:
    if (here := _here()) is not None and here.is_reached_by(connection):
        raise Misuse(_SECOND)


def _before_commit(connection: Connection) -> None:
    if (here := _here()) is not None and here.is_reached_by(connection):
        raise Misuse(_SECOND)


def _before_attach(session: Session, instance: object) -> None:
    here = _here()
    if here is not None and session.bind is not here.transaction.connection and here.is_bound_by(session, instance):
        raise Misuse(_SECOND)


def _files(connection: sqlite3.Connection) -> set[str]:
    """The database files that a connection has open, attached ones included."""
    cursor = connection.cursor()
    cursor.row_factory = None  # whatever the application made of the connection's
    return {str(Path(file).resolve()) for _, _, file in cursor.execute("PRAGMA database_list") if file}


def _address(info: Any) -> tuple[Any, ...]:
    return info.host, info.port, info.dbname


def _same(one: URL, other: URL) -> bool:
    """Whether two URLs name one database, as far as can be told without asking it."""
    if one.get_backend_name() != other.get_backend_name():
        return False
    if one.get_backend_name() == "sqlite":
        files = [Path(url.database).resolve() for url in (one, other) if url.database]
        return len(files) == 2 and files[0] == files[1] and files[0].name != ":memory:"
    places = [(url.host, url.port or 5432, url.database or url.username) for url in (one, other)]
    return places[0] == places[1]
