"""Dispatcher: sends messages for queued actions whose time has come, and again for those that nobody picked up.

`actionbus worker` runs one in a thread; any number may run, each run goes to one of them. Delays are rows that come
due, never timers of the broker, so they survive the broker.
"""

from __future__ import annotations

import logging
import threading
from uuid import UUID

from actionbus.core.declare.queue import BrokerUnavailable
from actionbus.core.gateway.publishing import RETRY_PUBLISHING_S, message_of
from actionbus.core.gateway.services import HasServices
from actionbus.core.storage.runs import Run

log = logging.getLogger("actionbus")
_AT_ONCE, _ALL = 100, 1_000_000
_LONGEST_SLEEP_S, _SHORTEST_SLEEP_S = 1.0, 0.02


class Dispatcher:
    """Sends what is due; `run` until told to stop, or `send` once."""

    def __init__(self, bus: HasServices) -> None:
        self._services = bus.services
        self._queue = bus.services.needed_queue()

    def run(self, stop: threading.Event) -> None:
        """Send what is due until `stop` is set. Outlives a database or a broker that is away."""
        while not stop.is_set():
            try:
                self.send()
                pause = self._pause()
            except Exception as error:
                log.warning("the dispatcher tries again in %.0f s: %s", RETRY_PUBLISHING_S, error)
                pause = RETRY_PUBLISHING_S
            stop.wait(pause)

    def send(self, *, lost: bool = False) -> list[UUID]:
        """Send messages for all runs that are due; with `lost`, also where the last message may be on its way still."""
        sent: list[UUID] = []
        while runs := self._services.runs.take_due(_ALL if lost else _AT_ONCE, self._queue.redeliver_after, lost=lost):
            for number, run in enumerate(runs):
                try:
                    self._publish(run)
                except BrokerUnavailable as error:
                    log.warning("%d messages wait for the broker: %s", len(runs) - number, error)
                    for unsent in runs[number:]:
                        self._services.runs.send_again(unsent.action_id, RETRY_PUBLISHING_S)
                    return sent
                sent.append(run.action_id)
            if lost:
                break
        return sent

    def _publish(self, run: Run) -> None:
        # Workers listen to the queues that their code names, which may be another than when this was queued.
        action = self._services.registry.find(run.action)
        self._queue.publish(message_of(run)._replace(queue=action.handler.queue if action else run.queue))

    def _pause(self) -> float:
        wait = self._services.runs.next_in()
        return min(max(_LONGEST_SLEEP_S if wait is None else wait, _SHORTEST_SLEEP_S), _LONGEST_SLEEP_S)
