"""OwnQueue: no broker. Workers claim what is due themselves, woken by the database. What a Bus has by default."""

from __future__ import annotations

from actionbus.core.declare.broker import Broker, Message
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.notifier import Announcer

RUNS_CHANNEL = "actionbus_runs"
"""Where PostgreSQL tells that something can be claimed."""


class OwnQueue(Broker):
    """Tells waiting workers that there is something to claim; they look by themselves too, only less often."""

    carries = False

    def __init__(self, *, redeliver_after: float = 60.0, attempts: int = 10) -> None:
        self.redeliver_after, self.attempts = redeliver_after, attempts
        self._announcer: Announcer | None = None

    def bind(self, backend: Backend) -> None:
        """Called by the bus: it announces there, if that database can."""
        if backend.can_announce and self._announcer is None:
            self._announcer = Announcer(backend.engine, RUNS_CHANNEL)

    def publish(self, message: Message) -> None:
        """Wake workers. On SQLite they see by themselves that the file has changed."""
        if self._announcer is not None:
            self._announcer.announce()

    def close(self) -> None:
        """End the thread that announces."""
        if self._announcer is not None:
            self._announcer.close()
