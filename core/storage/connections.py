"""How the gateway has connections and gives them back, the same for both databases. Base of `storage.backend`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from actionbus.core.secrecy.engine_log import keep_secrets_out
from actionbus.core.storage.drivers import driver_connection, is_usable
from actionbus.core.storage.kept import KeptConnections, survive_fork
from actionbus.core.storage.pooling import GATEWAY, watch_pool


class GatewayConnections(ABC):
    """An engine, and the connections that the gateway has of it."""

    def __init__(self, engine: Engine, *, own_engine: bool) -> None:
        self.engine = engine
        # A second engine over the same pool, so that only actions are listened to. One that was handed in may have
        # listeners, which must hear of actions too; a joined engine costs more, hence not always.
        self.gateway = Engine(engine.pool, engine.dialect, engine.url) if own_engine else engine.execution_options()
        watch_pool(engine)
        keep_secrets_out(self.gateway)
        self.kept: KeptConnections | None = None
        if own_engine:
            self.keep_connections()
        survive_fork(self)

    def connection(self) -> AbstractContextManager[Connection]:
        """A connection of the gateway, for one read.

        Its driver is in autocommit mode: the gateway begins and ends transactions in SQL of its own, so that COMMIT
        rides on other statements. Whatever becomes of the block, the pool gets the connection back as it was, with
        nothing open (see `storage.pooling`), or not at all.
        """
        return TakenConnection(self)

    def connection_for_action(self) -> TakenConnection:
        """The same for an action, which may have one that is kept for the next one and not in the pool meanwhile."""
        return TakenConnection(self, kept=self.kept)

    def keep_connections(self) -> None:
        """Keep an action's connection for the next one, past the pool; see `storage.kept`."""
        self.kept = KeptConnections(self.engine) if isinstance(self.engine.pool, QueuePool) else None

    def take(self, connection: Connection) -> None:
        """Make a pooled connection the gateway's, until the pool has it back."""
        dbapi = driver_connection(connection)
        # Noted first: an interruption between the two must not leave the driver as it is meant for actions alone.
        connection.info[GATEWAY] = self, self.driver_mode(dbapi)
        self.prepare_driver(dbapi)

    @abstractmethod
    def driver_mode(self, dbapi: Any) -> Any:
        """What `prepare_driver` is about to change."""

    @contextmanager
    def on(self, held: Connection | None) -> Iterator[Connection]:
        """The connection that the caller holds, outside of any transaction; or else one for the moment.

        Whoever holds a connection must not wait for a second one: with all of a pool's taken so, all wait for ever.
        """
        if held is None:
            with self.connection() as own:
                yield own
            return
        try:
            yield held
        finally:
            held.rollback()  # ends what SQLAlchemy takes for a transaction; the driver commits by itself

    @abstractmethod
    def prepare_driver(self, dbapi: Any) -> None:
        """Put a driver's connection into autocommit mode."""

    @abstractmethod
    def give_back(self, dbapi: Any, info: dict[Any, Any], mode: Any) -> bool:
        """Put a driver's connection back into `mode`, with no transaction open and no action's lock held.

        False if it is not as it was before, so that nobody else is to have it.
        """

    def renew_pool(self, *, close: bool = True) -> None:
        """Let go of all idle connections; `close=False` leaves them to the process that they were forked from."""
        self.engine.dispose(close=close)
        if type(self.gateway) is Engine:
            self.gateway.pool = self.engine.pool

    def renew(self, connection: Connection) -> None:
        """Replace a connection that is lost by a new one from the pool."""
        connection.invalidate()
        self.take(connection)

    def is_lost(self, error: BaseException, connection: Connection) -> bool:
        """Whether `error` means that the connection is gone."""
        if isinstance(error, DBAPIError):
            return error.connection_invalidated
        dialect = self.engine.dialect
        dbapi = dialect.loaded_dbapi
        if not isinstance(error, dbapi.Error):
            return False
        return not is_usable(connection) or dialect.is_disconnect(error, driver_connection(connection), None)


class TakenConnection(AbstractContextManager[Connection]):
    """A connection while it is the gateway's, and a turn in which nobody else has one.

    No generator's context manager: that sets the traceback of what is raised, which a frozen exception refuses.
    """

    __slots__ = ("_backend", "_connection", "_kept", "_turn")

    def __init__(
        self,
        backend: GatewayConnections,
        turn: AbstractContextManager[Any] | None = None,
        kept: KeptConnections | None = None,
    ) -> None:
        self._backend = backend
        self._turn = turn
        self._kept = kept
        self._connection: Connection | None = None

    def __enter__(self) -> Connection:
        if self._turn is not None:
            self._turn.__enter__()
        try:
            gateway = self._backend.gateway
            connection = self._connection = (self._kept and self._kept.take(gateway)) or gateway.connect()
            self._backend.take(connection)
            return connection
        except BaseException:
            self._close()
            raise

    def __exit__(self, *_: object) -> None:
        connection, kept = self._connection, self._kept
        try:
            if connection is not None and kept is not None and kept.leave(connection):
                self._connection = None
        finally:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.close()
        finally:
            if self._turn is not None:
                self._turn.__exit__(None, None, None)
