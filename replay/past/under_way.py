"""Transactions whose first records lie before another's outcome and whose last one lies after it. Used by the replayer.

The records of nested actions are appended in one message with the outer one's outcome, but each draws a position of its
own, and others draw theirs in between. What they all wrote was committed at once, behind the last of them: so it is
the outer action's, and nobody before that saw it.
"""

from __future__ import annotations

from collections.abc import Iterable

from actionbus.core import Journal, Record
from actionbus.replay.past.recorded import OfRecord


class UnderWay:
    """Holds what nested actions wrote until the outcome of their outer one."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held: list[tuple[int, OfRecord]] = []

    def holds(self, record: Record, of: OfRecord, position: int) -> bool:
        """Whether what a record wrote was committed behind a position only; then it is held until then."""
        ends = self._end_of(record)
        if ends > position:
            self._held.append((ends, of))
        return ends > position

    def due(self, position: int) -> list[OfRecord]:
        """What was committed at a position or before it, and was held."""
        found = [of for ends, of in self._held if ends <= position]
        self._held = [each for each in self._held if each[0] > position]
        return found

    def parted(self, records: Iterable[Record], position: int) -> list[Record]:
        """Those of the records up to a position that were committed behind it."""
        ends: dict[object, int] = {}
        found = []
        for record in sorted(records, key=lambda each: -each.position):
            if record.cause_id is not None and record.cause_id not in ends:
                ends[record.cause_id] = self._end_of(record)
            ends[record.action_id] = max(record.position, ends.get(record.cause_id, 0))
            if ends[record.action_id] > position:
                found.append(record)
        return found

    def _end_of(self, record: Record) -> int:
        """Where the outcome lies of the outermost action in whose transaction a record was appended."""
        end = record
        while end.cause_id is not None:
            cause = self._journal.outcome(end.cause_id)
            if cause is None or cause.position < end.position:
                break
            end = cause
        return end.position
