"""rename_kit: gives a kit another name."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from marshmallow import validate

from actionbus import ActionHandler, Arg
from actionbus.core.actions import NAME_LENGTH, Repo


class RenameKit(ActionHandler):
    """Rename a kit that you own."""

    requires = ("repo",)
    arguments = {
        "kit_id": Arg(UUID, required=True),
        "name": Arg(str, required=True, validator=validate.Length(1, NAME_LENGTH)),
    }
    permission = "kit:own"
    repo: Repo

    def validate(self) -> None:
        kit = self.repo.kit(self.args.kit_id)
        if kit is None:
            self.reject("kit_id", "there is no such kit")
        elif (other := self.repo.kit_named(kit.owner, self.args.name)) and other.id != kit.id:
            self.reject("name", "the owner has a kit of that name already")

    def execute(self) -> dict[str, Any]:
        self.repo.rename_kit(self.args.kit_id, self.args.name)
        return {"kit_id": self.args.kit_id}
