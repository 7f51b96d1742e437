"""Immutable values that leave the gateway: a Record is a row of the journal, an Outcome what a caller gets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, get_args
from uuid import UUID

Kind = Literal["submitted", "outcome", "bypass"]
"""What was asked; what came of it; that somebody wrote past the gateway."""
Status = Literal["succeeded", "rejected", "denied", "failed", "interrupted"]
"""Of an outcome."""
STATUSES: Final[tuple[Status, ...]] = get_args(Status)


class Record(NamedTuple):
    """One row of the journal, payload columns decoded. `seed` is left out of its repr."""

    position: int
    action_id: UUID
    kind: Kind
    status: Status | None
    action: str
    handler_version: int | None
    actor: str | None
    correlation_id: str
    cause_id: UUID | None
    idempotency_key: str | None
    recorded_at: datetime
    started_at: datetime | None
    release: str | None
    context: dict[str, Any] | None
    arguments: dict[str, Any]
    result: Any
    error: dict[str, Any] | None
    calls: list[dict[str, Any]] | None
    touched: dict[str, Any] | None
    seed: str | None
    xid: int | None
    seen: str | None
    duration_us: int | None
    format: int

    def __repr__(self) -> str:
        return f"<Record {self.position} {self.kind} {self.action} {self.status or ''} action_id={self.action_id}>"

    def public(self) -> dict[str, Any]:
        """Everything but the seed, for showing."""
        shown = self._asdict()
        del shown["seed"]
        return shown


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an action. `result` is JSON; `repeated` says it is an earlier call's outcome given again."""

    action_id: UUID
    action: str
    status: Status
    result: Any
    position: int
    repeated: bool = False
    error: dict[str, Any] | None = None

    @classmethod
    def of(cls, record: Record, *, repeated: bool = False) -> Outcome:
        """The outcome that a record of kind 'outcome' tells."""
        assert record.status is not None, f"{record!r} is no outcome"
        return cls(
            action_id=record.action_id,
            action=record.action,
            status=record.status,
            result=record.result,
            position=record.position,
            repeated=repeated,
            error=record.error,
        )
