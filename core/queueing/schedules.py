"""Queues actions with `every` when they are due: each tick once, by whichever of the schedulers is there.

Where a schedule is stands in one row by the database's clock. A scheduler leases the row's next tick, so that of many
one acts, and then runs the action `queue_tick`, which moves the row on and queues the action in one transaction. If it
dies before that commits, nothing happened, and another one acts when the lease is over; if the lease passes from a slow
one to another, the row has been moved on for one of them, and the other is rejected.

After a time in which nobody was there, the latest tick is queued, late; those before it are not, and `queue_tick` says
how many there were.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from actionbus.core.declare.queue import Schedule
from actionbus.core.errors import InvalidArguments
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.ticket import moment
from actionbus.core.queueing.operating import operate
from actionbus.core.storage.queue_state import Queues
from actionbus.core.values.caller import Caller

log = logging.getLogger("actionbus")
SCHEDULER: Final = "actionbus:scheduler"
"""The actor of what is queued by schedules; the checkpoint is asked for it as for any other."""
_MOST_COUNTED: Final = 100_000


class Due(NamedTuple):
    """Ticks since a schedule was moved on: the one to queue, and those before it."""

    tick: datetime
    missed: int
    missed_since: datetime | None


class Schedules:
    """The schedules of an application's actions. Any number of processes may have them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._queues = Queues(services.backend)
        self._schedules = {
            action.name: Schedule(action.handler.every) for action in services.registry if action.handler.every
        }

    def __bool__(self) -> bool:
        return bool(self._schedules)

    def turn(self) -> list[UUID]:
        """Queue what is due now, if nobody else does; what was queued."""
        queued = []
        for name, schedule in self._schedules.items():
            before, is_free = self._queues.tick_of(name, schedule.every)
            due = due_since(schedule, moment(before), moment(self._queues.now()))
            if due is None or not is_free or not self._queues.lease(name, schedule.every, before):
                continue
            if due.missed:
                log.warning(
                    "%s: %d ticks since %s were missed, while no scheduler ran; it is queued once, for %s",
                    name,
                    due.missed,
                    due.missed_since,
                    due.tick,
                )
            queued += self._queue(name, schedule, before, due)
        return queued

    def _queue(self, name: str, schedule: Schedule, before: float, due: Due) -> list[UUID]:
        told = {
            "action": name,
            "schedule": schedule.every,
            "tick": due.tick.isoformat(),
            "before": before,
            "missed": due.missed,
        }
        if due.missed_since is not None:
            told["missed_since"] = due.missed_since.isoformat()
        try:
            outcome = operate(self._services, Caller(SCHEDULER, operator=True), "queue_tick", told)
        except InvalidArguments as error:
            log.info("%s: %s", name, error)
            return []
        if "refused" in outcome.result:
            log.error("%s was not queued for %s: %s", name, due.tick, outcome.result["refused"])
            return []
        return [UUID(outcome.result["queued"])]


def due_since(schedule: Schedule, before: datetime, now: datetime) -> Due | None:
    """The latest tick after `before` and up to `now`, with how many came before it; None if there is none."""
    first = last = None
    count = 0
    for tick in schedule.after(before):
        if tick > now or count == _MOST_COUNTED:
            break
        first, last, count = first or tick, tick, count + 1
    if last is None:
        return None
    return Due(last, count - 1, first if count > 1 else None)
