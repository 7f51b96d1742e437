"""Pause a projection or a subscription, by an operator's decision; run by `actionbus projections pause`."""

from __future__ import annotations

from typing import Any

from marshmallow import validate

from actionbus import ActionHandler, Arg, Clock
from actionbus.projections.operating import Feeding, Pause


class PauseFeeding(ActionHandler):
    """Let a projection or a subscription stand still until somebody resumes it."""

    version = 1
    permission = "projections:operate"
    for_operators = True
    requires = ("feeding", "actor", "clock")
    arguments = {
        "name": Arg(type=str, required=True, validator=validate.Length(1, 100), description="of what is to pause"),
        "reason": Arg(type=str, default="", validator=validate.Length(max=500), description="why, for whoever wonders"),
    }
    feeding: Feeding
    actor: str | None
    clock: Clock

    def execute(self) -> dict[str, Any]:
        """Note it; whoever feeds looks every second."""
        now = self.clock.now().timestamp()
        self.feeding.pause(Pause(self.args.name, self.actor, now, self.args.reason or None))
        return {"name": self.args.name}
