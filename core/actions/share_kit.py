"""share_kit: lets somebody else see or edit a kit."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from marshmallow import validate

from actionbus import ActionHandler, Arg
from actionbus.core.actions import Repo


class ShareKit(ActionHandler):
    """Share a kit that you own, or change the role that somebody has in it."""

    requires = ("repo",)
    arguments = {
        "kit_id": Arg(UUID, required=True),
        "member": Arg(str, required=True, validator=validate.Length(1, 200), description="the actor to share it with"),
        "role": Arg(str, options=["viewer", "editor"], default="viewer"),
    }
    permission = "kit:own"
    repo: Repo

    def validate(self) -> None:
        kit = self.repo.kit(self.args.kit_id)
        if kit is None:
            self.reject("kit_id", "there is no such kit")
        elif kit.owner == self.args.member:
            self.reject("member", "owns the kit already")

    def execute(self) -> dict[str, Any]:
        self.repo.set_role(self.args.kit_id, self.args.member, self.args.role)
        return {"kit_id": self.args.kit_id, "member": self.args.member, "role": self.args.role}
