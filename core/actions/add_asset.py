"""add_asset: puts a new asset into a kit."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from marshmallow import validate

from actionbus import ActionHandler, Arg, Clock, Ids
from actionbus.core.actions import NAME_LENGTH, TAG_LENGTH, Repo


class AddAsset(ActionHandler):
    """Add an asset to a kit that you may edit."""

    requires = ("repo", "ids", "clock")
    arguments = {
        "kit_id": Arg(UUID, required=True),
        "name": Arg(str, required=True, validator=validate.Length(1, NAME_LENGTH), description="unique in the kit"),
        "kind": Arg(str, options=["icon", "photo", "sound", "video"], default="icon"),
        "content": Arg(str, default="", validator=validate.Length(max=10_000), description="the asset itself, as text"),
        "names": Arg(dict[str, str], default=dict, description="its name in other languages, by language code"),
        "tags": Arg(list[str], default=list),
    }
    permission = "kit:edit"
    repo: Repo
    ids: Ids
    clock: Clock

    def validate(self) -> None:
        if self.repo.kit(self.args.kit_id) is None:
            self.reject("kit_id", "there is no such kit")
        elif self.repo.asset_named(self.args.kit_id, self.args.name):
            self.reject("name", "the kit has an asset of that name already")
        if any(not 0 < len(tag) <= TAG_LENGTH for tag in self.args.tags):
            self.reject("tags", f"a tag has 1 to {TAG_LENGTH} characters")

    def execute(self) -> dict[str, Any]:
        asset_id = self.ids.uuid()
        self.repo.add_asset(id=asset_id, created_at=self.clock.now(), **self.args)
        return {"asset_id": asset_id}
