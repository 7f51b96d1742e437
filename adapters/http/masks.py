"""What a reader of the journal sees of values, also of runs and projections: all, all but personal ones, or only that
there are some.

A masked value is `{"$masked": true}`, a personal one that is withheld `{"$personal": true}`, or `[personal]` in a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from actionbus.adapters.http.journal_access import Access
from actionbus.core import Bus, Record
from actionbus.core.history.decoding import shown
from actionbus.core.secrecy.personal import withheld
from actionbus.core.values.change import Change, Columns, Who

MASKED: Final = {"$masked": True}
PERSONAL: Final = {"$personal": True}
_OPEN: Final = (
    "position",
    "action_id",
    "kind",
    "status",
    "action",
    "handler_version",
    "actor",
    "correlation_id",
    "cause_id",
    "recorded_at",
    "started_at",
    "duration_us",
    "release",
)
_VALUES: Final = ("idempotency_key", "context", "result", "error", "calls")
_VALUES_OF_RUNS: Final = ("problem", "concurrency_key")
_OF_A_RECORD: Final = ("position", "document", "refused", "error", "traceback")


class Masks:
    """Shows records and rows to one caller."""

    def __init__(self, bus: Bus, access: Access) -> None:
        self.access = access
        self._bus = bus

    def record(self, record: Record) -> dict[str, Any]:
        """A record as JSON, without what only replay needs."""
        told = {name: value for name in _OPEN if (value := getattr(record, name)) is not None}
        values = {name: value for name in _VALUES if (value := getattr(record, name)) is not None}
        if record.kind == "submitted" or record.arguments:
            values["arguments"] = record.arguments
        if not self.access.payloads:
            return told | {name: self._masked(record, name, value) for name, value in values.items()}
        return told | (values if self.access.personal else {name: withheld(each) for name, each in values.items()})

    def _masked(self, record: Record, name: str, value: Any) -> Any:
        if name == "arguments":
            # Names that nobody declared are the caller's own words.
            action = self._bus.registry.find(record.action)
            declared = action.handler.arguments if action is not None else {}
            return {each: MASKED for each in value if each in declared} or MASKED
        if name == "error" and isinstance(value, Mapping):
            return {"type": value.get("type"), "message": MASKED}
        return MASKED

    def row(self, table: str, row: Columns | None) -> dict[str, Any] | None:
        """A row as JSON, by its columns."""
        if row is None:
            return None
        if not self.access.payloads:
            return dict.fromkeys(row, MASKED)
        personal = self._personal.get(table.rpartition(".")[2], set())
        return {
            name: PERSONAL if name in personal and value is not None else shown(value) for name, value in row.items()
        }

    @cached_property
    def _personal(self) -> dict[str, set[str]]:
        """What is withheld of each table, whichever schema it is in: what the database knows to be personal, or to have
        been so, and what the application says.
        """
        if self.access.personal:
            return {}
        found: dict[str, set[str]] = {}
        for name, columns in self._bus.history.personal().items():
            found.setdefault(name.rpartition(".")[2], set()).update(columns)
        for each in self._bus.declared():
            found.setdefault(each.name, set()).update(each.personal)
        return found

    def change(self, change: Change) -> dict[str, Any]:
        """What became of a row, without whose change it was."""
        return {
            "table": change.table,
            "key": self.row(change.table, change.key),
            "operation": change.operation,
            "columns": change.columns(),
            "before": self.row(change.table, change.before),
            "after": self.row(change.table, change.after),
        }

    def run(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """A queued action, or what ended badly, as JSON. What of it is personal was never kept."""
        if self.access.payloads:
            return dict(told)
        return {**told, **{name: MASKED for name in _VALUES_OF_RUNS if told.get(name) is not None}}

    def stop(self, detail: Mapping[str, Any]) -> dict[str, Any]:
        """Why a projection is where it is. What is said of a record or a document may hold any value of it, and nobody
        can tell which of them are personal.
        """
        if self.access.personal or not any(name in detail for name in _OF_A_RECORD):
            return dict(detail)
        like = PERSONAL if self.access.payloads else MASKED
        return {name: value if name == "position" else like for name, value in detail.items()}

    def who(self, who: Who) -> dict[str, Any]:
        """Whose a change was, as far as the reader may know."""
        told = who.shown()
        return told if self.access.payloads or told["bypass"] is None else told | {"bypass": MASKED}
