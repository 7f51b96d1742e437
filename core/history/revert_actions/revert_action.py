"""revert_action: put back what one action changed; run by `ActionRunner.revert`."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

from actionbus import ActionHandler, Arg


class Reverts(Protocol):
    """The work; see `history.reverting`."""

    def run(self, session: Any, action_id: UUID) -> dict[str, Any]:
        """Put back, in the session's transaction; what was put back."""


class RevertAction(ActionHandler):
    """Put back the rows that one action changed, from their images, if nobody changed them since."""

    permission = "actionbus:revert"
    for_operators = True
    isolation = "READ COMMITTED"
    requires = ("reverting", "session")
    arguments = {"action_id": Arg(type=UUID, required=True, description="the action whose changes are put back")}
    reverting: Reverts
    session: Any

    def execute(self) -> dict[str, Any]:
        """Put back what the action changed. Raises RevertConflict if a row moved on."""
        return self.reverting.run(self.session, self.args.action_id)
