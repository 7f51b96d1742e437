"""retry_run: an operator's decision about a queued action; run by `ActionRunner.retry`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actionbus import Arg
from actionbus.core.queueing.decision import Decision


class RetryRun(Decision):
    """Queue an action again that ended badly, as a new one that this one caused."""

    requires = (*Decision.requires, "runner")
    arguments = {"action_id": Arg(type=UUID, required=True, description="the queued action")}
    runner: Any

    def execute(self) -> dict[str, Any]:
        """Let it run again; the id of what was decided about."""
        again = self.operating.again(self.session, self.runner, self.args.action_id)
        if again is None:
            self.reject("action_id", "is no dead letter, or no more; `actionbus runs list --dead` shows them")
        return {"action_id": self.args.action_id, "again": again}
