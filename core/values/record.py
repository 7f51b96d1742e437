"""Immutable values that leave the gateway: a Record is a row of the journal, an Outcome what a caller gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args
from uuid import UUID

from actionbus.core.values.change import Change

Kind = Literal["submitted", "outcome", "bypass"]
"""What was asked; what came of it; that somebody wrote past the gateway."""
Status = Literal["succeeded", "rejected", "denied", "failed", "interrupted"]
"""Of an outcome."""
STATUSES: Final[tuple[Status, ...]] = get_args(Status)


class Tells(Protocol):
    """What knows the rows: a History."""

    def touched(self, record: Record) -> Sequence[Change]:
        """See `Record.touched`."""

    def positions_of(self, table: str, key: Sequence[Any], after: int, upto: int | None) -> list[int]:
        """The positions in a range at which a table, or one of its rows, was changed; none if it was never recorded."""


class Teller:
    """Stands for the row history in the records of one journal; which one it is makes no two of them differ."""

    __slots__ = ("history",)

    def __init__(self) -> None:
        self.history: Tells | None = None

    def touched(self, record: Record) -> Sequence[Change]:
        """See `Record.touched`."""
        return self.needed().touched(record)

    def needed(self) -> Tells:
        """The history. Raises LookupError if there is none."""
        if self.history is None:
            raise LookupError(
                "this record was not read from a journal that knows its row history; read it through a Bus"
            )
        return self.history

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Teller)

    def __hash__(self) -> int:
        return 0

    def __reduce__(self) -> tuple[type[Teller], tuple[()]]:
        return Teller, ()


NOBODY: Final = Teller()


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
    seed: str | None
    xid: int | None
    seen: str | None
    duration_us: int | None
    format: int
    teller: Teller = NOBODY
    """Of the journal that it was read from."""

    @property
    def touched(self) -> Sequence[Change]:
        """What an action, or somebody past the gateway, did to rows: asked of the row history when it is read.

        Of an action those nested in it are not part. Raises LookupError for a record that no journal gave.
        """
        return self.teller.touched(self)

    def __repr__(self) -> str:
        return f"<Record {self.position} {self.kind} {self.action} {self.status or ''} action_id={self.action_id}>"

    def public(self) -> dict[str, Any]:
        """Everything but the seed, for showing."""
        shown = self._asdict()
        del shown["seed"], shown["teller"]
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
