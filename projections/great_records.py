"""A record of more documents than there is room for, absorbed in parts, each let go of before the next. Feeder does so.

What comes of a record is all there or, as far as we can tell beforehand, not at all. So its documents are folded twice:
first to see that no reducer fails and what the counts will come to, then, between `Ledger.intend` and
`Ledger.absorbed`, to write them. Reducers are pure, so both come to the same. Cut off between two parts, it is done
again from the start, and documents that are at the record's position already are left alone, as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from actionbus.core import Record
from actionbus.projections.claim import SignsOfLife
from actionbus.projections.entries import Room
from actionbus.projections.fold import Fold, FoldResult, stopped_by
from actionbus.projections.store import Write
from actionbus.projections.writing import SliceWriter


class GreatRecords:
    """Of one slice of one index."""

    def __init__(self, name: str, fold: Fold, writer: SliceWriter, room: Callable[[], Room]) -> None:
        self._name, self._fold, self._writer, self._room = name, fold, writer, room

    def surveyed(self, folded: FoldResult) -> FoldResult:
        """The same with what the great record in it comes to: its counts, or why it cannot be absorbed."""
        if folded.great is None:
            return folded
        changes = appeared = versions = 0
        for part in self._parts(folded.great):
            if part.poison:
                return FoldResult([], 0, 0, part.poison)
            changes += len(part.writes)
            appeared += part.appeared
            versions += part.versions
        great = folded.great if changes else None
        return folded._replace(appeared=appeared, versions=versions, great=great)

    def writes(self, folded: FoldResult) -> Iterator[Sequence[Write]]:
        """All documents to be written, a part at a time. Raises ProjectionStopped if a reducer is not pure."""
        if folded.writes:
            yield folded.writes
        if folded.great is None:
            return
        for part in self._parts(folded.great):
            if part.poison:
                raise stopped_by(part.poison, self._name)
            if part.writes:
                yield part.writes

    def _parts(self, record: Record) -> Iterator[FoldResult]:
        signs = SignsOfLife(self._writer.sign_of_life)
        for part in self._fold.in_parts(record, self._writer.load, self._room()):
            signs.give()
            yield part
