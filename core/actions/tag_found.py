"""tag_found: tags all assets that a search finds, as far as you may edit them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from marshmallow import validate

from core import ActionHandler, Arg
from core.actions import TAG_LENGTH, Checkpoint, EsRepo, Repo

MOST = 200


class TagFound(ActionHandler):
    """Add tags to all assets that a search finds and that you may edit."""

    requires = ("repo", "es_repo", "checkpoint")
    arguments = {
        "words": Arg(str, required=True, validator=validate.Length(1, 200), description="as for `actionbus search`"),
        "tags": Arg(list[str], required=True, validator=validate.Length(1, 100)),
    }
    repo: Repo
    es_repo: EsRepo
    checkpoint: Checkpoint

    def validate(self) -> None:
        if any(not 0 < len(tag) <= TAG_LENGTH for tag in self.args.tags):
            self.reject("tags", f"a tag has 1 to {TAG_LENGTH} characters")

    def execute(self) -> dict[str, Any]:
        found = self.es_repo.search("assets", self.args.words, limit=MOST)
        tagged = []
        for asset_id in (UUID(hit.key) for hit in found.hits):
            asset = self.repo.asset(asset_id)  # the search may be behind: what is gone is left out
            if asset is not None and self.checkpoint.may(asset.kit_id, "editor"):
                self.repo.tag(asset_id, self.args.tags)
                tagged.append(asset_id)
        if not tagged:
            self.reject("words", f"none of the {found.total} assets found is one that you may edit")
        return {"asset_ids": tagged, "tags": self.args.tags, "found": found.total}
