"""Tells projectors on PostgreSQL that there is something new in the journal, by NOTIFY; used by Call.

NOTIFY takes a lock that serializes commits, so it stays off the path of actions: a thread sends at most one in 50 ms,
on a transaction of its own. Nobody depends on it: projectors poll as well, only less often.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

CHANNEL: Final = "actionbus_journal"
_PAUSE_S: Final = 0.05
_IDLE_S: Final = 30.0

log = logging.getLogger("actionbus")


class Announcer:
    """One per bus whose application has projections. Its thread starts with the first announcement."""

    def __init__(self, engine: Engine, channel: str = CHANNEL) -> None:
        self._channel = channel
        self._engine = engine
        self._new = threading.Event()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        os.register_at_fork(after_in_child=self._forget)

    def announce(self) -> None:
        """Say that there is something new; returns at once."""
        self._new.set()
        if self._thread is None and not self._closed:
            with self._guard:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="actionbus-announcer", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """End the thread that listens; waits up to 5 s for it."""
        self._closed = True
        self._new.set()
        thread = self._thread
        if thread is not None:
            thread.join(5)

    def _forget(self) -> None:
        self._new, self._guard, self._thread = threading.Event(), threading.Lock(), None

    def _run(self) -> None:
        pause = threading.Event()
        while not self._closed:
            if not self._new.wait(_IDLE_S):
                continue
            self._new.clear()
            if self._closed:
                return
            try:
                with self._engine.connect() as connection:
                    connection.exec_driver_sql(f"NOTIFY {self._channel}")
                    connection.commit()
            except SQLAlchemyError as error:
                log.debug("projectors could not be notified, and will find out by themselves: %s", error)
            pause.wait(_PAUSE_S)
