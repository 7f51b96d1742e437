"""move_asset: takes an asset from one kit into another."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actionbus import ActionHandler, Arg
from actionbus.core.actions import Checkpoint, Repo


class MoveAsset(ActionHandler):
    """Move an asset into another kit. You must be allowed to edit both."""

    requires = ("repo", "checkpoint")
    arguments = {"asset_id": Arg(UUID, required=True), "kit_id": Arg(UUID, required=True, description="where it goes")}
    permission = "asset:edit"
    repo: Repo
    checkpoint: Checkpoint

    def validate(self) -> None:
        asset, kit = self.repo.asset(self.args.asset_id), self.repo.kit(self.args.kit_id)
        if asset is None:
            self.reject("asset_id", "there is no such asset")
        if kit is None:
            self.reject("kit_id", "there is no such kit")
        if asset is None or kit is None:
            return
        self.checkpoint.require_role(kit.id, "editor")
        if asset.kit_id == kit.id:
            self.reject("kit_id", "the asset is in this kit already")
        elif self.repo.asset_named(kit.id, asset.name):
            self.reject("kit_id", "the kit has an asset of that name already")

    def execute(self) -> dict[str, Any]:
        self.repo.move_asset(self.args.asset_id, self.args.kit_id)
        return {"asset_id": self.args.asset_id, "kit_id": self.args.kit_id}
