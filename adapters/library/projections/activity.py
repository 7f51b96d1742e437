"""Activity: what every actor did, and what was refused to them, an audit view."""

from __future__ import annotations

from typing import Any

from actionbus import Record
from actionbus.projections import STATUSES, Projection, on

_Document = dict[str, Any]
_KEPT = 10


def _actor(record: Record) -> str:
    return record.actor or "nobody"


class Activity(Projection):
    """One document per actor."""

    version = 1
    mappings = {
        "dynamic": "strict",
        "properties": {
            "actor": {"type": "keyword"},
            "actions": {"type": "long"},
            "succeeded": {"type": "long"},
            "refused": {"type": "long"},
            "by_action": {"type": "object", "enabled": False},
            "last_refusals": {"type": "object", "enabled": False},
            "first_at": {"type": "date"},
            "last_at": {"type": "date"},
        },
    }

    @on("*", key=_actor, statuses=STATUSES)
    def acted(self, document: _Document | None, record: Record) -> _Document:
        """Count it, and keep the last refusals."""
        at = record.recorded_at.isoformat()
        before = document or {
            "actor": _actor(record),
            "actions": 0,
            "succeeded": 0,
            "refused": 0,
            "by_action": {},
            "last_refusals": [],
            "first_at": at,
        }
        counts = before["by_action"].get(record.action, {})
        refused = record.status in ("rejected", "denied")
        refusal = {"action": record.action, "status": record.status, "at": at, "action_id": str(record.action_id)}
        return {
            **before,
            "actions": before["actions"] + 1,
            "succeeded": before["succeeded"] + (record.status == "succeeded"),
            "refused": before["refused"] + refused,
            "by_action": {
                **before["by_action"],
                record.action: {**counts, str(record.status): counts.get(str(record.status), 0) + 1},
            },
            "last_refusals": ([*before["last_refusals"], refusal] if refused else before["last_refusals"])[-_KEPT:],
            "last_at": at,
        }
