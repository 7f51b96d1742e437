"""Worker: claims queued actions and runs them, one after the other, until told to stop. One per process or thread."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Sequence
from typing import Final

from actionbus.core.gateway.services import HasServices
from actionbus.core.queueing.claiming import run_next
from actionbus.core.queueing.waiting import Waiting
from actionbus.core.values.readable import words

log = logging.getLogger("actionbus")
_AWAY_S: Final = 1.0
"""Until a database that is away is asked again."""


def worker_name(process: int) -> str:
    """What the worker in a process of this machine is called."""
    return f"{socket.gethostname()}/{process}"


class Worker:
    """`queues` are those that it takes from: all, if none are named."""

    def __init__(self, bus: HasServices, queues: Sequence[str] | None = None, *, name: str | None = None) -> None:
        self._services = bus.services
        self._queues = list(queues) if queues else None
        self._name = name or worker_name(os.getpid())

    def run(self, stop: threading.Event) -> None:
        """Run what is due until `stop` is set; what is begun then is ended first. Outlives a database that is away.

        Raises what asks the process to end, such as SystemExit, from inside an action: that is run again.
        """
        waiting = Waiting(self._services, self._queues)
        process = os.getpid()
        try:
            while not stop.is_set():
                try:
                    waiting.prepare()
                    if not self.run_due(stop):
                        waiting.sleep(stop)
                except Exception as error:
                    if os.getpid() != process:  # that of another worker, whose connections and signals are not its own
                        log.warning("a process that a handler forked came back from it, and is ended: %s", words(error))
                        os._exit(1)
                    log.warning("the worker tries again in %.0f s: %s", _AWAY_S, words(error))
                    waiting.close()
                    stop.wait(_AWAY_S)
        finally:
            waiting.close()

    def run_due(self, stop: threading.Event | None = None) -> int:
        """Run what may begin now, until nothing may, or `stop` is set; how many were begun."""
        begun, process = 0, os.getpid()
        while stop is None or not stop.is_set():
            try:
                if not run_next(self._services, self._name, self._queues).anything:
                    break
            except Exception as error:
                of_no_action = getattr(error, "action_id", None) is None and not getattr(error, "__notes__", ())
                if of_no_action or os.getpid() != process:  # the database could not be asked, or a handler forked
                    raise
                # The action's outcome is in the journal already, and a worker goes on.
                log.info("a queued action raised %s: %s", type(error).__name__, words(error))
            begun += 1
        return begun
