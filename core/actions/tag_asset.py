"""tag_asset: adds tags to an asset."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from marshmallow import validate

from actionbus import ActionHandler, Arg
from actionbus.core.actions import TAG_LENGTH, Repo


class TagAsset(ActionHandler):
    """Add tags to an asset. Those that it has already are left as they are."""

    requires = ("repo",)
    arguments = {
        "asset_id": Arg(UUID, required=True),
        "tags": Arg(list[str], required=True, validator=validate.Length(1, 100)),
    }
    permission = "asset:edit"
    repo: Repo

    def validate(self) -> None:
        if self.repo.asset(self.args.asset_id) is None:
            self.reject("asset_id", "there is no such asset")
        if any(not 0 < len(tag) <= TAG_LENGTH for tag in self.args.tags):
            self.reject("tags", f"a tag has 1 to {TAG_LENGTH} characters")

    def execute(self) -> dict[str, Any]:
        return {"asset_id": self.args.asset_id, "added": self.repo.tag(self.args.asset_id, self.args.tags)}
