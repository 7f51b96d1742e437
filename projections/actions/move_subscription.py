"""Say where a subscription goes on, by an operator's decision; run by `actionbus subscriptions skip` and `reset`."""

from __future__ import annotations

from typing import Any

from marshmallow import validate

from actionbus import ActionHandler, Arg
from actionbus.projections.delivery import row_name
from actionbus.projections.operating import Feeding


class MoveSubscription(ActionHandler):
    """Let a subscription go on beyond a position: to leave a record out, or to have some once more."""

    version = 1
    permission = "projections:operate"
    for_operators = True
    requires = ("feeding",)
    arguments = {
        "name": Arg(type=str, required=True, description="the subscription's name"),
        "to": Arg(
            type=int, required=True, validator=validate.Range(min=0), description="it goes on beyond this position"
        ),
        "reason": Arg(type=str, default="", validator=validate.Length(max=500), description="why"),
    }
    feeding: Feeding

    def execute(self) -> dict[str, Any]:
        """Whoever hands over finds out before the next record."""
        rows = self.feeding.rows(row_name(self.args.name))
        if not rows:
            self.reject("name", "is not the name of a subscription that was ever followed")
            return {}
        if self.args.to > (last := self.feeding.last()):
            self.reject("to", f"is beyond the journal's end, {last}: what is yet to come up to there would be left out")
            return {}
        self.feeding.move(rows[0].index_name, self.args.to)
        return {"name": self.args.name, "from": rows[0].position, "to": self.args.to}
