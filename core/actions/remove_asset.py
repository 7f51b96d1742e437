"""remove_asset: does away with an asset and its tags."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actionbus import ActionHandler, Arg
from actionbus.core.actions import Repo


class RemoveAsset(ActionHandler):
    """Remove an asset from a kit that you may edit."""

    requires = ("repo",)
    arguments = {"asset_id": Arg(UUID, required=True)}
    permission = "asset:edit"
    repo: Repo

    def validate(self) -> None:
        if self.repo.asset(self.args.asset_id) is None:
            self.reject("asset_id", "there is no such asset; it may have been removed")

    def execute(self) -> dict[str, Any]:
        self.repo.remove_asset(self.args.asset_id)
        return {"asset_id": self.args.asset_id}
