"""What the row history answers, and what each answer rests on. Made by `history.history`, shown by commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from actionbus.core.values.change import Change, Columns, Source, is_same


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
    problems: tuple[str, ...] = ()
    """Why its history is not whole now, as the database's catalogue has it when it is asked."""
    unrecorded_since: int | None = None
    """The position beyond which changes may have gone by unrecorded; None where nothing says so."""
    key: tuple[str, ...] = ()
    """The columns of its key."""


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
    """Changes that are not at a position yet: past the gateway on SQLite, of forged actions on PostgreSQL; the next
    record gives them one."""

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Gaps in the history of any of the tables."""
        return tuple(gap for table in self.tables for gap in table.gaps)


@dataclass(frozen=True, slots=True)
class State:
    """The rows of each table at a position."""

    tables: dict[str, list[Columns]]
    basis: Basis


class StateStream:
    """Each table's name and its rows; they are to be read in this order, within the `with`."""

    basis: Basis
    """What they rest on; known when they have been read and the `with` has ended."""
    is_ordered: bool
    """Whether each table's rows come in the order of a key, by which one can go on."""

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
class RowDifference:
    """A row that is not the same at two positions."""

    table: str
    key: Columns
    before: Columns | None
    after: Columns | None


@dataclass(frozen=True, slots=True)
class Differences:
    """The rows that differ between two positions."""

    rows: list[RowDifference]
    basis: Basis


@dataclass(frozen=True, slots=True)
class BlamedColumn:
    """Who gave a column the value that it has."""

    column: str
    value: Any
    change: Change

    def is_same(self, earlier: BlamedColumn | None) -> bool:
        """Whether it is the value that there was before, be it read anew since."""
        return earlier is not None and earlier.change.after is not None and is_same(self.value, earlier.value)


@dataclass(frozen=True, slots=True)
class Blame:
    """Who last changed each column of a row."""

    columns: list[BlamedColumn]
    basis: Basis


@dataclass(frozen=True, slots=True)
class RowTold:
    """What became of one row, oldest first, and who last changed each of its columns."""

    changes: list[Change]
    columns: list[BlamedColumn]
    basis: Basis


@dataclass(frozen=True, slots=True)
class BisectResult:
    """The first position at which something holds; None where it was not found."""

    source: Source | None
    checks: int
    basis: Basis
    note: str = ""
