"""rename_asset: gives an asset another name."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from marshmallow import validate

from actionbus import ActionHandler, Arg
from actionbus.core.actions import NAME_LENGTH, Repo


class RenameAsset(ActionHandler):
    """Rename an asset in a kit that you may edit."""

    requires = ("repo",)
    arguments = {
        "asset_id": Arg(UUID, required=True),
        "name": Arg(str, required=True, validator=validate.Length(1, NAME_LENGTH)),
    }
    permission = "asset:edit"
    repo: Repo

    def validate(self) -> None:
        asset = self.repo.asset(self.args.asset_id)
        if asset is None:
            self.reject("asset_id", "there is no such asset")
        elif (other := self.repo.asset_named(asset.kit_id, self.args.name)) and other.id != asset.id:
            self.reject("name", "the kit has an asset of that name already")

    def execute(self) -> dict[str, Any]:
        self.repo.rename_asset(self.args.asset_id, self.args.name)
        return {"asset_id": self.args.asset_id}
