"""tag_found: tags all assets that a search finds, as far as you may edit them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from marshmallow import validate

from actionbus import ActionHandler, Arg
from actionbus.core.actions import TAG_LENGTH, Checkpoint, EsRepo, Repo

MOST = 200


class TagFound(ActionHandler):
    """Add tags to all assets that a search finds and that you may edit."""

    requires = ("repo", "es_repo", "checkpoint", "actor")
    arguments = {
        "words": Arg(str, required=True, validator=validate.Length(1, 200), description="as for `actionbus search`"),
        "tags": Arg(list[str], required=True, validator=validate.Length(1, 100)),
    }
    repo: Repo
    es_repo: EsRepo
    checkpoint: Checkpoint
    actor: str | None

    def validate(self) -> None:
        if any(not 0 < len(tag) <= TAG_LENGTH for tag in self.args.tags):
            self.reject("tags", f"a tag has 1 to {TAG_LENGTH} characters")

    def execute(self) -> dict[str, Any]:
        tagged = []
        for asset_id in self._found():
            asset = self.repo.asset(asset_id)  # the search may be behind: what is gone is left out
            if asset is not None and self.checkpoint.may(asset.kit_id, "editor"):
                self.repo.tag(asset_id, self.args.tags)
                tagged.append(asset_id)
        if not tagged:
            self.reject("words", "no asset that you may edit has all of them")
        return {"asset_ids": tagged, "tags": self.args.tags}

    def _found(self) -> list[UUID]:
        """Searched only where the actor may edit: what a search returns is kept with the outcome."""
        kits = self.repo.kits_to_edit(self.actor or "")
        if not kits:
            return []
        within = {"kit_id": [str(kit_id) for kit_id in kits]}
        found = self.es_repo.search("assets", self.args.words, filters=within, limit=MOST)
        return [UUID(hit.key) for hit in found.hits]
