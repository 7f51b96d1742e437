"""The rows of one table that differ between two positions: `History.diff`.

What lies between is summed, which tells the rows wrong that somebody changed unseen: of those that differ, the images
are followed, and each is told as the state of each of the two positions has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from actionbus.core.history.answers import RowDifference
from actionbus.core.history.fold import BrokenRow, Fold
from actionbus.core.history.images import Residual
from actionbus.core.history.opened import OpenedPosition
from actionbus.core.history.recorded import RecordedTable
from actionbus.core.history.states import Rows
from actionbus.core.history.versions import FOREVER, Trail, by_key, by_position
from actionbus.core.values.change import Columns

_KEYS_AT_ONCE = 1_000


class Differing:
    """One table between two positions. What does not add up is in `broken` when the rows have been asked for."""

    def __init__(self, before: OpenedPosition, after: OpenedPosition, recorded: RecordedTable) -> None:
        self._before = before
        self._after = after
        self._recorded = recorded
        self._earlier = before.find(recorded.name)
        self.broken: list[BrokenRow] = []

    def rows(self) -> list[RowDifference]:
        """As they were and as they are, in pairs where they have a key."""
        is_one_era = self._earlier is not None and self._earlier.since_image == self._recorded.since_image
        return _paired(self._recorded, self._between() if is_one_era else self._of_states())

    def _between(self) -> list[Residual]:
        """What was put there and taken away."""
        recorded, images = self._recorded, self._after.images
        fold = Fold(recorded.shapes, images.values)
        residue = images.residue(recorded.shapes, recorded.since_image, self._after.cut, self._before.cut)
        left = fold.reconciled(list(residue))
        if not fold.is_keyed:
            return left
        found: list[Residual] = []
        keys = list(dict.fromkeys(each.key for each in left))
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            links = images.open_links(recorded.shapes, some, recorded.since_image, self._after.cut)
            found += self._followed(fold, fold.doubtful(links)) if links else ()
        followed = {each.key for each in self.broken}
        return [each for each in left if each.key not in followed] + found

    def _followed(self, fold: Fold, keys: Sequence[Any]) -> Iterator[Residual]:
        """Of rows that may have been changed unseen, what each position has, if they were."""
        recorded = self._recorded
        images = self._after.images.of_keys(recorded.shapes, keys, recorded.since_image, self._after.cut)
        for own in by_key(images):
            trail = Trail(fold)
            before: Residual | None = None
            after: Residual | None = None
            for position, changes in by_position(own, unplaced=True):
                after = trail.go(changes)
                if position <= self._before.cut.position and position < FOREVER:
                    before = after
            if trail.broken:
                self.broken.append(trail.broken[-1])
                if (before and (before.shape, before.row)) != (after and (after.shape, after.row)):
                    yield from (each._replace(times=sign) for each, sign in ((before, -1), (after, 1)) if each)

    def _of_states(self) -> list[Residual]:
        """Where a baseline lies between: what differs between the states."""
        sums: dict[Any, Residual] = {}
        told = [(1, Rows(self._after.images, self._recorded, self._after.cut))]
        if self._earlier is not None:
            told.append((-1, Rows(self._before.images, self._earlier, self._before.cut)))
        for sign, rows in told:
            for each in rows.all():
                known = sums.get(own := (each.shape, repr(each.row)), each._replace(times=0))
                sums[own] = known._replace(times=known.times + sign * each.times)
            self.broken += rows.broken
        shapes = self._recorded.shapes if self._earlier is None else self._after.all_of(self._recorded)
        fold = Fold(shapes, self._after.images.values)
        return fold.reconciled([each for each in sums.values() if each.times])


def _paired(recorded: RecordedTable, residue: Sequence[Residual]) -> list[RowDifference]:
    told: dict[int, Iterator[Columns]] = {}
    for shape in dict.fromkeys(each.shape for each in residue):
        told[shape] = iter(recorded.columns_of(shape, [each.row for each in residue if each.shape == shape]))
    rows: dict[Any, list[Columns | None]] = {}
    for each in residue:
        row = next(told[each.shape])
        for copy in range(abs(each.times)):
            paired = each.key if recorded.shape.key and copy == 0 else object()  # others are in no pair
            rows.setdefault(paired, [None, None])[each.times > 0] = row
    found = []
    for before, after in rows.values():
        whole = after or before or {}
        found.append(RowDifference(recorded.name, {name: whole[name] for name in recorded.shape.key}, before, after))
    return found
