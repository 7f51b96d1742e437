"""cancel_run: an operator's decision about a queued action; run by `ActionRunner.cancel`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actionbus import Arg
from actionbus.core.queueing.decision import Decision


class CancelRun(Decision):
    """Keep a queued action from being run, or ask it to end if it runs; take a dead letter off the list."""

    arguments = {"action_id": Arg(type=UUID, required=True, description="the queued action")}

    def execute(self) -> dict[str, Any]:
        """Cancel it; the id of what was decided about."""
        state = self.operating.cancel(self.session, self.args.action_id)
        if state is None:
            self.reject("action_id", "is no action that waits or runs in a queue, nor a dead letter")
        return {"action_id": self.args.action_id, "was": state}
