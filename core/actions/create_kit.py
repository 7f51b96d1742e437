"""create_kit: a new, empty kit of the actor's own."""

from __future__ import annotations

from typing import Any

from marshmallow import validate

from actionbus import ActionHandler, Arg, Clock, Ids
from actionbus.core.actions import NAME_LENGTH, Repo


class CreateKit(ActionHandler):
    """Create a kit, owned by you."""

    requires = ("repo", "actor", "ids", "clock")
    arguments = {
        "name": Arg(
            str, required=True, validator=validate.Length(1, NAME_LENGTH), description="unique among your kits"
        ),
        "description": Arg(str, default="", validator=validate.Length(max=2000)),
    }
    permission = "kits:create"
    repo: Repo
    actor: str
    ids: Ids
    clock: Clock

    def validate(self) -> None:
        if self.repo.kit_named(self.actor, self.args.name):
            self.reject("name", "you have a kit of that name already")

    def execute(self) -> dict[str, Any]:
        kit_id = self.ids.uuid()
        self.repo.add_kit(id=kit_id, owner=self.actor, created_at=self.clock.now(), **self.args)
        return {"kit_id": kit_id}
