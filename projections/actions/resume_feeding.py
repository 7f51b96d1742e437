"""Resume what was paused, by an operator's decision; run by `actionbus projections resume`."""

from __future__ import annotations

from typing import Any

from marshmallow import validate

from actionbus import ActionHandler, Arg
from actionbus.projections.operating import Feeding


class ResumeFeeding(ActionHandler):
    """Let a projection or a subscription go on after a pause."""

    version = 1
    permission = "projections:operate"
    for_operators = True
    requires = ("feeding",)
    arguments = {
        "name": Arg(type=str, required=True, validator=validate.Length(1, 100), description="of what was paused"),
    }
    feeding: Feeding

    def execute(self) -> dict[str, Any]:
        """It goes on where it stood."""
        if not self.feeding.resume(self.args.name):
            self.reject("name", "is not paused")
        return {"name": self.args.name}
