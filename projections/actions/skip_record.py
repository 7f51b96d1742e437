"""Leave a record out of a projection, by an operator's decision; run by `actionbus projections skip`."""

from __future__ import annotations

from typing import Any

from marshmallow import validate

from actionbus import ActionHandler, Arg
from actionbus.projections.stops import Stops


class SkipRecord(ActionHandler):
    """Let one version of a projection go on without a record that it cannot absorb."""

    version = 1
    permission = "projections:operate"
    for_operators = True
    requires = ("projection_stops",)
    arguments = {
        "projection": Arg(type=str, required=True, description="the projection's name"),
        "of_version": Arg(type=int, required=True, description="the version of its code"),
        "position": Arg(type=int, required=True, validator=validate.Range(min=1), description="the record"),
        "reason": Arg(type=str, default="", description="what it was stopped by"),
    }
    projection_stops: Stops

    def validate(self) -> None:
        """Only the record that stopped the projection: what is decided is in the journal for good."""
        rows = self.projection_stops.of(self.args.projection)
        of_version = [row for row in rows if row.version == self.args.of_version]
        stopped: set[int] = {row.told.get("position", 0) for row in of_version if row.state == "stopped"} - {0}
        if not rows:
            self.reject("projection", "is not the name of a projection that was ever fed")
        elif not of_version:
            there = ", ".join(str(version) for version in sorted({row.version for row in rows}))
            self.reject("of_version", f"is of no index of this projection; there are: {there}")
        elif self.args.position not in stopped:
            by = ", ".join(str(position) for position in sorted(stopped))
            now = f"is stopped by {by}" if by else "is not stopped by a record"
            self.reject("position", f"is not the record that stopped this projection, which {now}")

    def execute(self) -> dict[str, Any]:
        """Nothing but the record itself: feeders find the decision in the journal."""
        return {name: self.args[name] for name in ("projection", "of_version", "position")}
