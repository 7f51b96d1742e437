"""Leave a record out of a projection, by an operator's decision; run by `actionbus projections skip`."""

from __future__ import annotations

from typing import Any

from marshmallow import validate

from core import ActionHandler, Arg


class SkipRecord(ActionHandler):
    """Let one version of a projection go on without a record that it cannot absorb."""

    version = 1
    arguments = {
        "projection": Arg(type=str, required=True, description="the projection's name"),
        "of_version": Arg(type=int, required=True, description="the version of its code"),
        "position": Arg(type=int, required=True, validator=validate.Range(min=1), description="the record"),
        "reason": Arg(type=str, default="", description="what it was stopped by"),
    }

    def execute(self) -> dict[str, Any]:
        """Nothing but the record itself: feeders find the decision in the journal."""
        return {name: self.args[name] for name in ("projection", "of_version", "position")}
