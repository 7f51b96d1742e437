"""remove_kit: does away with an empty kit."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actionbus import ActionHandler, Arg
from actionbus.core.actions import Repo


class RemoveKit(ActionHandler):
    """Remove a kit that you own. It must be empty."""

    requires = ("repo",)
    arguments = {"kit_id": Arg(UUID, required=True)}
    permission = "kit:own"
    repo: Repo

    def validate(self) -> None:
        if self.repo.kit(self.args.kit_id) is None:
            self.reject("kit_id", "there is no such kit")
        elif count := self.repo.asset_count(self.args.kit_id):
            self.reject("kit_id", f"the kit still holds {count} assets; move or remove them first")

    def execute(self) -> dict[str, Any]:
        self.repo.remove_kit(self.args.kit_id)
        return {"kit_id": self.args.kit_id}
