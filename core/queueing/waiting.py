"""What a worker sleeps with until there may be something to claim. Used by `queueing.worker`.

PostgreSQL: a NOTIFY. SQLite: the file's `data_version`, which costs no more than a look into shared memory. Neither is
relied upon: nobody sleeps longer than a second, nor past the time when the next run comes due.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.pool import StaticPool

from actionbus.core.gateway.services import Services
from actionbus.core.queueing.own import RUNS_CHANNEL

log = logging.getLogger("actionbus")
_LONGEST_S: Final = 1.0
_SHORTEST_S: Final = 0.005
_GLANCE_S: Final = 0.2
"""Until a worker that sleeps sees that it is to stop."""
_LOOK_S: Final = 0.02
"""Between two looks at a file of SQLite."""


class Waiting:
    """Of one worker, which sleeps in one thread."""

    def __init__(self, services: Services, queues: Sequence[str] | None) -> None:
        self._services, self._queues = services, queues
        self._connection: Connection | None = None
        self._version: object = None

    def prepare(self) -> None:
        """Called before a worker looks for something to claim: what happens from now on ends the next sleep."""
        if self._connection is None and not isinstance(self._services.engine.pool, StaticPool):
            connection = self._services.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection = connection
            if self._services.backend.can_announce:
                connection.exec_driver_sql(f"LISTEN {RUNS_CHANNEL}")
        if self._services.backend.can_announce:
            self._drain()
        else:
            self._version = self._data_version()

    def sleep(self, stop: threading.Event) -> None:
        """Until there may be something new."""
        claims = self._services.claims
        known = [each for each in (claims.due_in(self._queues), claims.rated_in(self._queues)) if each is not None]
        deadline = time.monotonic() + max(_SHORTEST_S, min([_LONGEST_S, *known]))
        if self._services.backend.can_announce:
            self._until(stop, deadline, _GLANCE_S, self._is_notified)
        else:
            self._until(stop, deadline, _LOOK_S, lambda pause: bool(stop.wait(pause)) or self._has_changed())

    def close(self) -> None:
        """Let go of the connection; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.invalidate()  # so that its LISTEN does not live on in the pool
            with suppress(Exception):
                connection.close()

    def _until(self, stop: threading.Event, deadline: float, glance: float, is_over: Callable[[float], bool]) -> None:
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            if is_over(min(glance, left)):
                return

    def _is_notified(self, pause: float) -> bool:
        if self._connection is None:
            time.sleep(pause)
            return False
        driver: Any = self._connection.connection.dbapi_connection
        if not select.select([driver], [], [], pause)[0]:
            return False
        return self._drain()

    def _drain(self) -> bool:
        assert self._connection is not None
        driver: Any = self._connection.connection.dbapi_connection
        driver.poll()
        found = bool(driver.notifies)
        driver.notifies.clear()
        return found

    def _has_changed(self) -> bool:
        return self._data_version() != self._version

    def _data_version(self) -> object:
        if self._connection is None:
            return None
        return self._connection.exec_driver_sql("PRAGMA data_version").scalar()
