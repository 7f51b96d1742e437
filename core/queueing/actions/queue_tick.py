"""queue_tick: what a scheduler does when an action with `every` is due; run by `queueing.schedules`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from actionbus import Arg
from actionbus.core.queueing.decision import Decision


class QueueTick(Decision):
    """Queue a scheduled action for one tick of its schedule, once."""

    requires = (*Decision.requires, "runner")
    arguments = {
        "action": Arg(type=str, required=True),
        "schedule": Arg(type=str, required=True),
        "tick": Arg(type=datetime, required=True, description="the time that is queued for"),
        "before": Arg(type=float, required=True, description="where the schedule was, in seconds since 1970"),
        "missed": Arg(type=int, default=0, description="ticks before this one that nobody queued, and nobody will"),
        "missed_since": Arg(type=datetime, description="the first of them"),
    }
    runner: Any

    def execute(self) -> dict[str, Any]:
        """The queued action; or why it was refused, with which the schedule goes on all the same."""
        found = self.operating.tick(self.session, self.runner, self.args)
        if found is None:
            self.reject("tick", "was queued by another scheduler")
        return {"action": self.args.action, "tick": self.args.tick, "missed": self.args.missed, **(found or {})}
