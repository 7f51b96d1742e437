"""How an action on record looks to its caller, and to somebody who may read the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from actionbus.adapters.http.masks import Masks
from actionbus.adapters.http.problems import kept
from actionbus.adapters.json_views import described_run
from actionbus.core import Record
from actionbus.core.storage.runs import Run
from actionbus.projections.search import Hits

_TO_ITS_CALLER: Final = (
    "position",
    "action_id",
    "kind",
    "status",
    "action",
    "actor",
    "correlation_id",
    "cause_id",
    "idempotency_key",
    "recorded_at",
    "started_at",
    "duration_us",
    "result",
)
"""Of either record. What else there is, such as the answers of outside services, was never meant for callers."""
_RUN_TO_ITS_CALLER: Final = ("action_id", "action", "state", "due_at", "attempts")


def action_of(records: Sequence[Record], run: Run | None, masks: Masks | None) -> dict[str, Any]:
    """An action: `submitted`, `outcome`, `state`, `run` while on its way. `masks` are for who may read the journal."""
    shown = masks.record if masks else _to_its_caller
    told: dict[str, Any] = {"action_id": records[0].action_id, "action": records[0].action}
    told |= {record.kind: shown(record) for record in records}
    told["state"] = run.state if run else "done" if len(records) > 1 else "running"
    if run:
        everything = described_run(run)
        told["run"] = masks.run(everything) if masks else {name: everything[name] for name in _RUN_TO_ITS_CALLER}
    return told


def _to_its_caller(record: Record) -> dict[str, Any]:
    told = {name: value for name in _TO_ITS_CALLER if (value := getattr(record, name)) is not None}
    if record.kind == "submitted":
        told["arguments"] = record.arguments
    elif record.status != "succeeded":
        told["error"] = kept(record.status or "", record.error).told()
    return told


def hits_of(found: Hits, following: str | None) -> Mapping[str, Any]:
    """A page of hits, and the cursor of the following one."""
    hits = [
        {"key": hit.key, "score": hit.score, "document": hit.document, "highlights": hit.highlights}
        for hit in found.hits
    ]
    told = {"total": found.total, "hits": hits, "facets": found.facets}
    return told | ({"next": following} if following else {})
