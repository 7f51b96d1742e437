"""untag_asset: takes tags away from an asset."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actionbus import ActionHandler, Arg
from actionbus.core.actions import Repo


class UntagAsset(ActionHandler):
    """Take tags away from an asset. It must have at least one of them."""

    requires = ("repo",)
    arguments = {"asset_id": Arg(UUID, required=True), "tags": Arg(list[str], required=True)}
    permission = "asset:edit"
    repo: Repo

    def validate(self) -> None:
        if self.repo.asset(self.args.asset_id) is None:
            self.reject("asset_id", "there is no such asset")

    def execute(self) -> dict[str, Any]:
        removed = self.repo.untag(self.args.asset_id, self.args.tags)
        if not removed:
            self.reject("tags", "the asset has none of these")
        return {"asset_id": self.args.asset_id, "removed": removed}
