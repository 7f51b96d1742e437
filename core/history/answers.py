"""What the row history answers, and what each answer rests on. Made by `history.history`, shown by commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from actionbus.core.history.images import Source

Columns = dict[str, Any]
"""A row by its columns; one that was not recorded when the row was written is `decoding.UNKNOWN`."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that happened to a row and was not recorded."""

    table: str
    key: Columns
    """The row's key; empty for a table without one."""
    position: int | None
    """Of the image by which it was noticed."""
    why: str


@dataclass(frozen=True, slots=True)
class TableBasis:
    """How far the history of one table reaches."""

    table: str
    since: datetime
    """When its baseline was taken, or its triggers were installed upon an empty table."""
    since_position: int | None
    """The baseline's position; None if there was nothing to copy."""
    columns: tuple[str, ...]
    withheld: tuple[str, ...]
    """Columns that are never recorded."""
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer rests on."""

    position: int
    tables: tuple[TableBasis, ...]
    unrecorded: tuple[str, ...] = ()
    """Tables whose history had not begun by then."""
    bypasses: int = 0
    """Transactions that wrote past the gateway up to there, whichever table they wrote; 1,000 stands for more, too."""
    waiting: int = 0
    """SQLite: changes past the gateway that are not at a position yet; the next action gives them one."""

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Of all tables."""
        return tuple(gap for table in self.tables for gap in table.gaps)


@dataclass(frozen=True, slots=True)
class Who:
    """Whose change it was."""

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
        """As JSON."""
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
        before, after = self.before or {}, self.after or {}
        return [n for n in {**before, **after} if n not in before or n not in after or not _is(before[n], after[n])]


@dataclass(frozen=True, slots=True)
class State:
    """The rows of each table at a position."""

    tables: dict[str, list[Columns]]
    basis: Basis


class Streamed:
    """Each table's name and its rows; they are to be read in this order, within the `with`."""

    basis: Basis
    """What they rest on; known when they have been read and the `with` has ended."""

    def __init__(self, tables: Iterator[tuple[str, Iterator[Columns]]]) -> None:
        self._tables = tables

    def __iter__(self) -> Iterator[tuple[str, Iterator[Columns]]]:
        return self._tables


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of rows, in order."""

    changes: list[Change]
    basis: Basis


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not the same at two positions."""

    table: str
    key: Columns
    before: Columns | None
    after: Columns | None


@dataclass(frozen=True, slots=True)
class Differences:
    """The rows that differ between two positions."""

    rows: list[Difference]
    basis: Basis


@dataclass(frozen=True, slots=True)
class Blamed:
    """Who gave a column the value that it has."""

    column: str
    value: Any
    change: Change


@dataclass(frozen=True, slots=True)
class Blame:
    """Who last changed each column of a row."""

    columns: list[Blamed]
    basis: Basis


@dataclass(frozen=True, slots=True)
class Bisected:
    """The first position at which something holds; None where it was not found."""

    source: Source | None
    checks: int
    basis: Basis
    note: str = ""


def _is(one: Any, other: Any) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)
