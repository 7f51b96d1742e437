"""Kits: every kit with its owner and those it is shared with."""

from __future__ import annotations

from typing import Any

from actionbus import Record
from actionbus.projections import Projection, on

_Document = dict[str, Any]


class Kits(Projection):
    """Names for the kits that a search finds assets in."""

    version = 1
    mappings = {
        "dynamic": "strict",
        "properties": {
            "name": {"type": "text", "fields": {"exact": {"type": "keyword"}}},
            "description": {"type": "text"},
            "owner": {"type": "keyword"},
            "members": {"type": "object", "enabled": False},
        },
    }

    @on("create_kit", key="kit_id")
    def created(self, document: _Document | None, record: Record) -> _Document:
        """A new kit."""
        given = record.arguments
        return {"name": given["name"], "description": given["description"], "owner": record.actor, "members": {}}

    @on("rename_kit", key="kit_id")
    def renamed(self, document: _Document | None, record: Record) -> _Document | None:
        """Another name."""
        return document and {**document, "name": record.arguments["name"]}

    @on("share_kit", key="kit_id")
    def shared(self, document: _Document | None, record: Record) -> _Document | None:
        """A new member, or another role."""
        given = record.result
        return document and {**document, "members": {**document["members"], given["member"]: given["role"]}}

    @on("unshare_kit", key="kit_id")
    def unshared(self, document: _Document | None, record: Record) -> _Document | None:
        """Somebody who shared it does not any more."""
        if document is None:
            return None
        left = {name: role for name, role in document["members"].items() if name != record.arguments["member"]}
        return {**document, "members": left}

    @on("remove_kit", key="kit_id")
    def removed(self, document: _Document | None, record: Record) -> None:
        """Gone."""
