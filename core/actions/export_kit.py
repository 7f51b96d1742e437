"""export_kit: writes a kit's assets to storage outside the database."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from marshmallow import validate

from actionbus import ActionHandler, Arg
from actionbus.core.actions import FILE_NAME, Repo, Storage

_PLAIN = validate.Regexp(
    rf"{FILE_NAME}\Z",
    error="must be 1 to 255 letters, digits, dots, dashes and underscores, the first a letter or digit",
)


class ExportKit(ActionHandler):
    """Write a kit that you may see to your part of the storage, as JSON."""

    requires = ("repo", "storage")
    arguments = {
        "kit_id": Arg(UUID, required=True),
        "file": Arg(str, required=True, validator=_PLAIN, description="the file's name"),
    }
    permission = "kit:view"
    repo: Repo
    storage: Storage

    def validate(self) -> None:
        if self.repo.kit(self.args.kit_id) is None:
            self.reject("kit_id", "there is no such kit")

    def execute(self) -> dict[str, Any]:
        assets = self.repo.assets(self.args.kit_id)
        where = self.storage.put(self.args.file, json.dumps(assets, ensure_ascii=False, indent=1))
        return {"kit_id": self.args.kit_id, "assets": len(assets), "where": where}
