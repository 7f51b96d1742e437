"""A change of one row, and whose it was: what the row history tells, and what `record.touched` gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

Columns = dict[str, Any]
"""A row by its columns; one that was not recorded when the row was written is `decoding.UNKNOWN`."""


class Source(NamedTuple):
    """The record of the journal that a change belongs to."""

    position: int
    action_id: UUID
    kind: str
    action: str
    actor: str | None
    at: datetime
    context: Any
    xid: int | None


@dataclass(frozen=True, slots=True)
class Who:
    """Whose change it was: an action's, or somebody's past the gateway."""

    source: Source | None
    """None for what is not at a position yet."""
    at: datetime | None
    claimed: str | None = None
    """The action that the session named and that has no such outcome: somebody set the name by hand."""

    @property
    def bypass(self) -> dict[str, Any] | None:
        """Who wrote past the gateway, as far as the database knows; None for an action."""
        if self.claimed is not None:
            return {"claims": self.claimed}
        if self.source is not None and self.source.kind != "bypass":
            return None
        return dict((self.source and self.source.context) or {})

    def shown(self) -> dict[str, Any]:
        """Whose it was as JSON, for commands and HTTP."""
        is_action = self.bypass is None
        source = self.source
        return {
            "position": source.position if source else None,
            "action_id": source.action_id if source and self.claimed is None else None,
            "action": source.action if source and is_action else None,
            "actor": source.actor if source and is_action else None,
            "at": self.at,
            "bypass": self.bypass,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """What one image says: a row before and after. `operation` is `insert`, `update`, `delete`, `baseline` or `gap`."""

    table: str
    operation: str
    before: Columns | None
    after: Columns | None
    who: Who
    key: Columns = field(default_factory=dict)

    def columns(self) -> list[str]:
        """The columns whose value changed, or became known."""
        return [name for name in {**(self.before or {}), **(self.after or {})} if self.has_given(name)]

    def has_given(self, column: str) -> bool:
        """Whether the column's value changed, or became known."""
        before, after = self.before or {}, self.after or {}
        return column not in before or column not in after or not is_same(before[column], after[column])


def reading_of(value: Any) -> str | None:
    """How a value reads, whatever its column's type; NULL is no text."""
    return None if value is None else str(value)


def reads_same(one: Any, other: Any) -> bool:
    """Whether two values read alike, of whatever types their columns are."""
    return reading_of(one) == reading_of(other)


def is_same(one: Any, other: Any) -> bool:
    """Whether two values of a column are of one type and read alike."""
    return type(one) is type(other) and repr(one) == repr(other)


def last_changes(changes: Sequence[Change]) -> dict[str, Change]:
    """By column, which of the changes of a row, oldest first, gave it its value; the last, if the row is gone."""
    if not changes:
        return {}
    if changes[-1].after is None:
        return dict.fromkeys(changes[-1].before or {}, changes[-1])
    left = list(changes[-1].after)
    found: dict[str, Change] = {}
    for change in reversed(changes):
        given = {name for name in left if change.has_given(name)}
        found |= dict.fromkeys(given, change)
        left = [name for name in left if name not in given]
        if not left:
            break
    return found
