"""What became of one row, with what went unseen between its images as a change of its own. Made by `history.opened`.

Where images do not follow from each other, somebody changed the row while nothing recorded it: nobody who is on record
gave it the values by which that was noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

from actionbus.core.history.fold import BrokenRow, Fold
from actionbus.core.history.images import Image
from actionbus.core.history.versions import Trail, by_position
from actionbus.core.values.change import Change, Source, Who

ChangesOf = Callable[[Sequence[Image]], list[Change]]


class RowHistory(NamedTuple):
    """All that is known of one row, oldest first."""

    changes: list[Change]
    """Among them what went unseen: of operation `gap`, of nobody, just before the change by which it was noticed."""
    broken: list[BrokenRow]

    def noticed_by(self, number: int) -> Source | None:
        """Of the change of this number, or, if it went unseen, of the one by which it was noticed."""
        return next((each.who.source for each in self.changes[number:] if not is_unseen(each)), None)


def is_unseen(change: Change) -> bool:
    """Whether a change is one that nothing recorded."""
    return change.operation == "gap" and change.who.source is None


def row_history(fold: Fold, images: Sequence[Image], changes_of: ChangesOf) -> RowHistory:
    """The changes that a row's images tell, and those that they do not."""
    trail = Trail(fold)
    told = iter(changes_of(images))  # in the order of records, too
    changes: list[Change] = []
    for _, of_record in by_position(images, unplaced=True):
        known = len(trail.broken)
        trail.go(of_record)
        for change in islice(told, len(of_record)):
            if len(trail.broken) > known and (missing := _between(changes, change)) is not None:
                changes.append(missing)
            changes.append(change)
    return RowHistory(changes, trail.broken)


def _between(changes: Sequence[Change], noticed: Change) -> Change | None:
    """From what was known to what was found; None where that is the same."""
    held = changes[-1].after if changes else None
    found = Change(noticed.table, "gap", held, noticed.before, Who(None, None), noticed.key)
    return found if found.columns() else None
