"""Sleeps until there may be something new in the journal. Used by claims and by `journal stream`."""

from __future__ import annotations

import select
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine

from actionbus.core.storage.notifier import CHANNEL

POLL_POSTGRESQL_S: Final = 1.0
"""Seconds until one looks though no NOTIFY came: one may be lost with its connection."""
_POLL_SQLITE_S: Final = 0.1
"""Seconds between two looks on SQLite, which tells nobody of new records."""
GLANCE_S: Final = 0.2
"""Seconds until one that waits sees that it is to stop, or that a claim is free."""


def listen(connection: Connection) -> None:
    """Hear of new records on a connection of one's own, which is in autocommit mode."""
    connection.exec_driver_sql(f"LISTEN {CHANNEL}")


def sleep(connection: Connection | None, stop: threading.Event, poll: float = POLL_POSTGRESQL_S) -> None:
    """Until a notification comes on a connection that listens, or it is time to look; without one, for a moment."""
    if connection is None:
        stop.wait(_POLL_SQLITE_S)
        return
    driver: Any = connection.connection.dbapi_connection
    deadline = time.monotonic() + poll
    while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
        if select.select([driver], [], [], min(GLANCE_S, left))[0]:
            driver.poll()
            if driver.notifies:
                driver.notifies.clear()
                return


def discard(connection: Connection) -> None:
    """Close the driver's connection too, so that its lock and its LISTEN do not live on in the pool."""
    with suppress(Exception):
        connection.invalidate()
    with suppress(Exception):
        connection.close()


class Waking:
    """For one who follows the journal and holds no claim. While it is open it has a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        if self._engine.dialect.name == "postgresql":
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            listen(self._connection)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            discard(self._connection)

    def sleep(self, stop: threading.Event) -> None:
        """Until there may be something new; also where the writers' application has nobody to tell of it."""
        sleep(self._connection, stop, GLANCE_S)
