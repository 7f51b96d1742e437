"""Dispatcher: what must be done for queued actions while workers run some. Each worker has one, in a thread.

It takes back what dead workers had, settles what was cancelled, queues what schedules say, recovers actions whose
process died; and where a broker wakes workers, it sends messages for what has come due, and again where nobody came.
Delays are rows that come due, never timers of the broker, so they survive it. Any number of dispatchers may run.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import Final
from uuid import UUID

from actionbus.core.errors import BrokerUnavailable, JournalUnavailable
from actionbus.core.gateway.publishing import RETRY_PUBLISHING_S, message_of
from actionbus.core.gateway.recovery import recover
from actionbus.core.gateway.services import HasServices
from actionbus.core.queueing.claiming import settle_cancelled, take_back_stale
from actionbus.core.queueing.schedules import Schedules
from actionbus.core.storage.queue_state import Queues
from actionbus.core.storage.runs import Run
from actionbus.core.values.public import public

log = logging.getLogger("actionbus")
_AT_ONCE, _ALL = 100, 1_000_000
_LONGEST_SLEEP_S, _SHORTEST_SLEEP_S = 1.0, 0.02
_TURN_S: Final = 1.0
RECOVER_EVERY_S: Final = 60.0
RECOVERED_AFTER: Final = timedelta(minutes=1)


@public
class Dispatcher:
    """Does all that, by `run` until told to stop; `send` and `turn` are one round of each half."""

    def __init__(self, bus: HasServices) -> None:
        self._services = bus.services
        self._broker = bus.services.broker
        self._schedules = Schedules(bus.services)
        self._recovery = Recovery(bus)
        self._turned_at = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Go on until `stop` is set. Outlives a database or a broker that is away."""
        while not stop.is_set():
            try:
                self.send()
                if time.monotonic() - self._turned_at >= _TURN_S:
                    self._turned_at = time.monotonic()
                    self.turn()
                pause = self._pause()
            except Exception as error:
                log.warning("the dispatcher tries again in %.0f s: %s", RETRY_PUBLISHING_S, error)
                pause = RETRY_PUBLISHING_S
            stop.wait(pause)

    def turn(self) -> None:
        """Take back, settle, queue what is scheduled and recover, each as far as there is something to do."""
        take_back_stale(self._services)
        for run in self._services.runs.cancelled():
            settle_cancelled(self._services, run)
        if self._schedules:
            self._schedules.turn()
        if self._recovery.is_due():
            self._recovery.turn()
            Queues(self._services.backend).forget_reservations()

    def send(self, *, lost: bool = False) -> list[UUID]:
        """Send messages for all runs that are due; with `lost`, also where the last message may be on its way still."""
        sent: list[UUID] = []
        if not self._broker.carries:
            return sent
        while runs := self._services.runs.take_due(_ALL if lost else _AT_ONCE, self._broker.redeliver_after, lost=lost):
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
        self._broker.publish(message_of(run)._replace(queue=action.handler.queue if action else run.queue))

    def _pause(self) -> float:
        wait = self._services.runs.next_in() if self._broker.carries else None
        return min(max(_LONGEST_SLEEP_S if wait is None else wait, _SHORTEST_SLEEP_S), _LONGEST_SLEEP_S)


class Recovery:
    """Recovery that runs by itself, in workers and projectors: once a minute, by any number of processes."""

    def __init__(self, bus: HasServices) -> None:
        self._services = bus.services
        self._next_at = 0.0

    def is_due(self) -> bool:
        """Whether it is time to do it again."""
        return time.monotonic() >= self._next_at

    def turn(self) -> None:
        """Recover what is older than a minute. A role that may not write the journal leaves that to others."""
        self._next_at = time.monotonic() + RECOVER_EVERY_S
        try:
            done = recover(self._services, RECOVERED_AFTER)
        except JournalUnavailable as error:
            log.info("recovery is left to processes that may write the journal: %s", error)
            self._next_at = float("inf")
            return
        if done.interrupted:
            log.warning("%d actions whose process died have the outcome interrupted", len(done.interrupted))

    def run(self, stop: threading.Event) -> None:
        """Go on until `stop` is set."""
        while not stop.wait(_TURN_S):
            try:
                if self.is_due():
                    self.turn()
            except Exception as error:
                log.warning("recovery is tried again in a minute: %s", error)
