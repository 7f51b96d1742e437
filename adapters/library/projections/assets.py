"""Assets: every asset with its names in all languages, its tags and its kit, for searching."""

from __future__ import annotations

from typing import Any

from actionbus import Record
from actionbus.projections import Projection, on

_Document = dict[str, Any]


class Assets(Projection):
    """What `actionbus search` looks through."""

    version = 1
    mappings = {
        "dynamic": "strict",
        "properties": {
            "name": {"type": "text", "fields": {"exact": {"type": "keyword"}}},
            "names": {"type": "text"},
            "languages": {"type": "keyword"},
            "tags": {"type": "keyword"},
            "words": {"type": "text"},
            "kind": {"type": "keyword"},
            "content": {"type": "keyword", "index": False, "doc_values": False},
            "kit_id": {"type": "keyword"},
            "added_by": {"type": "keyword"},
            "added_at": {"type": "date"},
        },
    }

    @on("add_asset", key="asset_id")
    def added(self, document: _Document | None, record: Record) -> _Document:
        """A new asset."""
        given = record.arguments
        names = given.get("names") or {}
        return {
            "name": given["name"],
            "names": [names[code] for code in sorted(names)],
            "languages": sorted(names),
            "tags": sorted(set(given.get("tags") or [])),
            "words": sorted(set(given.get("tags") or [])),
            "kind": given.get("kind"),
            "content": given.get("content"),
            "kit_id": given["kit_id"],
            "added_by": record.actor,
            "added_at": record.recorded_at.isoformat(),
        }

    @on("rename_asset", key="asset_id")
    def renamed(self, document: _Document | None, record: Record) -> _Document | None:
        """Another name."""
        return document and {**document, "name": record.arguments["name"]}

    @on("move_asset", key="asset_id")
    def moved(self, document: _Document | None, record: Record) -> _Document | None:
        """Another kit."""
        return document and {**document, "kit_id": record.result["kit_id"]}

    @on("tag_asset", key="asset_id")
    def tagged(self, document: _Document | None, record: Record) -> _Document | None:
        """More tags."""
        return document and _with_tags(document, {*document["tags"], *record.arguments["tags"]})

    @on("tag_found", key="asset_ids")
    def tagged_with_others(self, document: _Document | None, record: Record) -> _Document | None:
        """More tags, on several assets at once."""
        return document and _with_tags(document, {*document["tags"], *record.result["tags"]})

    @on("untag_asset", key="asset_id")
    def untagged(self, document: _Document | None, record: Record) -> _Document | None:
        """Fewer tags."""
        return document and _with_tags(document, {*document["tags"]} - {*record.arguments["tags"]})

    @on("remove_asset", key="asset_id")
    def removed(self, document: _Document | None, record: Record) -> None:
        """Gone."""


def _with_tags(document: _Document, tags: set[str]) -> _Document:
    return {**document, "tags": sorted(tags), "words": sorted(tags)}
