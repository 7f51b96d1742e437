"""What the journal asks of a database; `core.postgresql` and `core.sqlite` answer, `core.database` chooses.

All SQL on the write path of an action is in those two files.
"""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from core import events
from core.running import watch


class Row(NamedTuple):
    """A record about to be appended; the columns that the database fills in are not here."""

    action_id: UUID
    kind: str
    status: str | None
    action: str
    handler_version: int | None
    actor: str | None
    correlation_id: str
    cause_id: UUID | None
    idempotency_key: str | None
    started_at: datetime | None
    release: str | None
    context: str | None
    arguments: str | None
    result: str | None
    error: str | None
    calls: str | None
    touched: str | None
    seed: str | None
    seen: str | None
    duration_us: int | None


WRITTEN: Final = ", ".join(Row._fields)


class Appended(NamedTuple):
    """Where a submitted record went, and the snapshot of the database it was written under."""

    position: int
    seen: str | None


class Statement(NamedTuple):
    """SQL with `?` for each value, to be run together with an outcome."""

    sql: str
    values: tuple[Any, ...]


class Backend(ABC):
    """One database: its engine, and every statement of an action's write path."""

    def __init__(self, engine: Engine, schema: str | None, *, own_engine: bool) -> None:
        self.engine = engine
        self.schema = schema
        self.journal_name = f'"{schema}".journal' if schema else "journal"
        # A second engine over the same pool, so that only actions are listened to. One that was handed in may have
        # listeners, which must hear of actions too; a joined engine costs more, hence not always.
        self.gateway = Engine(engine.pool, engine.dialect, engine.url) if own_engine else engine.execution_options()
        events.install(self.gateway)
        watch(engine)
        self._side_effects: dict[str, tuple[str, ...]] = {}
        _survive_fork(self)

    @abstractmethod
    def connection(self) -> AbstractContextManager[Connection]:
        """A connection of the gateway, for one action or one read.

        Its driver is in autocommit mode: the gateway begins and ends transactions in SQL of its own, so that BEGIN
        and COMMIT ride on other statements.
        """

    @abstractmethod
    def prepare_driver(self, dbapi: Any) -> None:
        """Put a driver's connection into autocommit mode."""

    def renew_pool(self, *, close: bool = True) -> None:
        """Let go of all idle connections; `close=False` leaves them to the process that they were forked from."""
        self.engine.dispose(close=close)
        if type(self.gateway) is Engine:
            self.gateway.pool = self.engine.pool

    def renew(self, connection: Connection) -> None:
        """Replace a connection that is lost by a new one from the pool."""
        connection.invalidate()
        self.prepare_driver(driver_connection(connection))

    @abstractmethod
    def append_submitted(self, connection: Connection, row: Row, *, durable: bool) -> Appended | None:
        """Append and commit; None if its idempotency key, or the action itself, is in the journal already."""

    @abstractmethod
    def begin(self, connection: Connection, isolation: str) -> str:
        """Begin the action's transaction; what is returned must be put before its first statement."""

    @abstractmethod
    def seen(self, connection: Connection) -> str | None:
        """The snapshot that the transaction sees, for an attempt after the first."""

    @abstractmethod
    def finish(
        self, connection: Connection, begin: str, rows: Sequence[Row], action_id: UUID, also: Sequence[Statement] = ()
    ) -> int:
        """Append `rows`, run `also`, commit and release the action; the last row's position. Raises CommitConflict."""

    @abstractmethod
    def rollback(self, connection: Connection) -> None:
        """Roll the action's transaction back."""

    @abstractmethod
    def append_alone(self, connection: Connection, row: Row, also: Sequence[Statement] = ()) -> int | None:
        """Append an outcome and run `also` in a transaction of their own, then release the action.

        None if the action has an outcome already.
        """

    @abstractmethod
    def run_alone(self, connection: Connection, statement: Statement) -> None:
        """Run one statement in a transaction of its own, durably."""

    @abstractmethod
    def written_id(self, action_id: UUID) -> str:
        """An action's id as the driver takes it."""

    @abstractmethod
    def claim(self, connection: Connection, action_id: UUID) -> bool:
        """Take the lock of an action, which fails while it runs anywhere."""

    @abstractmethod
    def release(self, connection: Connection, action_id: UUID) -> None:
        """Give the lock of an action back."""

    @abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Whether the database asks for the transaction to be run again."""

    @abstractmethod
    def find_side_effects(self, connection: Connection, table: str) -> list[str]:
        """What else the database changes when `table` is written: triggers and cascades."""

    def side_effects(self, connection: Connection, table: str) -> tuple[str, ...]:
        """`find_side_effects`, asked once per table and process."""
        if table not in self._side_effects:
            self._side_effects[table] = tuple(self.find_side_effects(connection, table))
        return self._side_effects[table]

    def is_lost(self, error: BaseException, connection: Connection) -> bool:
        """Whether `error` means that the connection is gone."""
        if isinstance(error, DBAPIError):
            return error.connection_invalidated
        dialect = self.engine.dialect
        dbapi = dialect.loaded_dbapi
        if not isinstance(error, dbapi.Error):
            return False
        return connection.invalidated or dialect.is_disconnect(error, connection.connection.dbapi_connection, None)

    def chain_is_transient(self, error: BaseException) -> bool:
        """Whether `error`, or one that it was raised from, is transient."""
        seen: set[int] = set()
        each: BaseException | None = error
        while each is not None and id(each) not in seen:
            seen.add(id(each))
            if self.is_transient(getattr(each, "orig", None) or each):
                return True
            each = each.__cause__ or each.__context__
        return False


def _survive_fork(backend: Backend) -> None:
    """A forked child must not use its parent's connections: it gets a fresh pool."""
    reference = weakref.ref(backend)

    def renew() -> None:
        found = reference()
        if found is not None:
            found.renew_pool(close=False)

    os.register_at_fork(after_in_child=renew)


def driver_connection(connection: Connection) -> Any:
    """The driver's own connection below SQLAlchemy's."""
    return connection.connection.dbapi_connection
