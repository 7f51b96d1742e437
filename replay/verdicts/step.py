"""Step: one action run again, and the verdict on it. Made by `Replayer`, read by whoever replays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from actionbus.core import Record
from actionbus.core.values import payload
from actionbus.replay.past.history import Entry
from actionbus.replay.past.nets import RowChange, changes_of
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.verdicts.divergence import Difference

Verdict = Literal["same", "divergent", "concurrent", "order", "retired", "unplayable"]


@dataclass(slots=True)
class Step:
    """One action run again, and what is said of it: its verdict."""

    entry: Entry
    rerun: Rerun | None
    verdict: Verdict
    differences: list[Difference] = field(default_factory=list)
    overlapped: tuple[UUID, ...] = ()
    """Where it differs: the actions that ran at the same time. Of a divergent one they do not explain it."""
    statement: str | None = None
    """Of a concurrent one: its first statement to which it made a difference what they had committed, if known."""
    why: str | None = None
    """Of a retired or unplayable one."""

    @property
    def record(self) -> Record:
        """The outcome as the journal has it."""
        return self.entry.outcome

    @property
    def position(self) -> int:
        """Where its outcome lies."""
        return self.entry.position

    @property
    def is_divergence(self) -> bool:
        """Whether it counts: neither the same nor explained."""
        return self.verdict == "divergent"

    @property
    def changes(self) -> list[RowChange]:
        """The rows that it changes now."""
        return changes_of(self.rerun.nets) if self.rerun else []

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The outside calls that were played back."""
        return (payload.loads(self.rerun.outcome.calls) if self.rerun and self.rerun.outcome.calls else None) or []

    def __repr__(self) -> str:
        return f"<Step {self.position} {self.record.action} {self.verdict}>"
