"""unshare_kit: takes somebody's role in a kit away."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actionbus import ActionHandler, Arg
from actionbus.core.actions import Repo


class UnshareKit(ActionHandler):
    """Stop sharing a kit that you own with somebody."""

    requires = ("repo",)
    arguments = {"kit_id": Arg(UUID, required=True), "member": Arg(str, required=True)}
    permission = "kit:own"
    repo: Repo

    def execute(self) -> dict[str, Any]:
        if not self.repo.drop_role(self.args.kit_id, self.args.member):
            self.reject("member", "has no role in this kit")
        return {"kit_id": self.args.kit_id, "member": self.args.member}
