"""reschedule_run: an operator's decision about a queued action; run by `ActionRunner.reschedule`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from actionbus import Arg
from actionbus.core.queueing.decision import Decision


class RescheduleRun(Decision):
    """Let a queued action that waits be due at another time."""

    arguments = {
        "action_id": Arg(type=UUID, required=True, description="the queued action"),
        "due_at": Arg(type=datetime, description="when it is due; now if left out"),
    }

    def execute(self) -> dict[str, Any]:
        """Move it; when it is due now."""
        due = self.operating.reschedule(self.session, self.args.action_id, self.args.due_at)
        if isinstance(due, str):
            self.reject("action_id", due)
        return {"action_id": self.args.action_id, "due_at": due}
