"""How an action on record looks to its caller, and to somebody who may read the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actionbus.adapters.http.problems import kept
from actionbus.adapters.shown import described_record, described_run
from actionbus.core import Record
from actionbus.core.storage.runs import Run
from actionbus.projections.store import Hits

_TO_ITS_CALLER: Final = (
    "position", "action_id", "kind", "status", "action", "actor", "correlation_id", "cause_id", "idempotency_key",
    "recorded_at", "started_at", "duration_us", "result",
)  # fmt: skip
"""Of either record. What else there is, such as the answers of outside services, was never meant for callers."""
_RUN_TO_ITS_CALLER: Final = ("action_id", "action", "state", "due_at", "attempts")


def action_of(submitted: Record, outcome: Record | None, run: Run | None, *, whole: bool) -> dict[str, Any]:
    """An action: `submitted`, `outcome`, `state`, `run` while on its way. `whole` is for who may read the journal."""
    shown = described_record if whole else _to_its_caller
    told: dict[str, Any] = {"action_id": submitted.action_id, "action": submitted.action}
    told |= {record.kind: shown(record) for record in (submitted, outcome) if record is not None}
    told["state"] = run.state if run else "done" if outcome else "running"
    if run:
        everything = described_run(run)
        told["run"] = everything if whole else {name: everything[name] for name in _RUN_TO_ITS_CALLER}
    return told


def _to_its_caller(record: Record) -> dict[str, Any]:
    told = {name: value for name in _TO_ITS_CALLER if (value := getattr(record, name)) is not None}
    if record.kind == "submitted":
        told["arguments"] = record.arguments
    elif record.status != "succeeded":
        told["error"] = kept(record.status or "", record.error).told()
    return told


def hits_of(found: Hits) -> Mapping[str, Any]:
    """A page of hits."""
    hits = [{"key": hit.key, "score": hit.score, "document": hit.document, "highlights": hit.highlights}
            for hit in found.hits]  # fmt: skip
    return {"total": found.total, "hits": hits, "facets": found.facets}
