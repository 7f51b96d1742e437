"""The rows of a table as they were, one key after the other, in bounded memory. Used by `core.history.history`.

Where each image of a key takes away what the one before it left, the last one tells the row: the sum of them all comes
to the same. Only where they do not follow, as where the order of images is not that of execution, the sum is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from typing import Any

from actionbus.core.errors import HistoryError
from actionbus.core.history.fold import BrokenRow, Fold
from actionbus.core.history.images import STRETCH, Cut, Images, Residual, Stretch
from actionbus.core.history.recorded import RecordedTable
from actionbus.core.history.versions import Trail, by_key, by_position


class Rows:
    """The rows of one table at one position. What does not add up in them is in `broken` when they have been read."""

    def __init__(self, images: Images, recorded: RecordedTable, cut: Cut) -> None:
        self._images = images
        self._recorded = recorded
        self._cut = cut
        self._fold = Fold(recorded.shapes, images.values)
        self.broken: list[BrokenRow] = []

    def all(self) -> Iterator[Residual]:
        """Each row as often as it is there, in the order of keys; without a key in none, and all in memory."""
        if self._fold.is_keyed:
            for keys, shapes, rows, _ in self._by_key():
                yield from map(Residual, shapes, keys, rows, repeat(1), repeat(0))
            return
        images, recorded = self._images, self._recorded
        folded = self._fold.settle(images.residue(recorded.shapes, recorded.since_image, self._cut))
        self.broken += folded.broken
        yield from folded.rows

    @property
    def is_ordered(self) -> bool:
        """Whether there is a key to go by."""
        return self._fold.is_keyed

    def columns(self, after: Any = None, limit: int | None = None, most: int | None = None) -> Iterator[dict[str, Any]]:
        """The same by columns; beyond a key, at most so many. Raises HistoryError where there is no key to go by, and
        more than `most` changes are to be read for that.
        """
        if after is None and not self._fold.is_keyed and (limit is None or self._is_short(most)):
            left = [row for row in self.all() for _ in range(row.times)]
            return islice(self._told([row.shape for row in left], [row.row for row in left]), limit)
        if not self._fold.is_keyed:
            raise HistoryError(_no_order(self._recorded))
        beyond = None if after is None else self._recorded.key_of(after)
        stretches = self._by_key(beyond, limit or STRETCH)
        return islice(chain.from_iterable(self._told(each.shapes, each.rows) for each in stretches), limit)

    def _is_short(self, most: int | None) -> bool:
        recorded, cut = self._recorded, self._cut
        begun = cut._replace(image=recorded.since_image - 1)
        return most is not None and self._images.count_between(recorded.shapes, begun, cut, most) <= most

    def _by_key(self, after: Any = None, size: int = STRETCH) -> Iterator[Stretch]:
        """The rows that are there."""
        recorded = self._recorded
        for each in self._images.stretches(recorded.shapes, recorded.since_image, self._cut, after, size):
            summed = self._summed(self._fold.doubtful(each.links))
            yield _there(each, summed) if summed or None in each.rows else each

    def _summed(self, keys: Sequence[Any]) -> dict[Any, Residual | None]:
        recorded = self._recorded
        images = self._images.of_keys(recorded.shapes, keys, recorded.since_image, self._cut) if keys else ()
        found: dict[Any, Residual | None] = {}
        for own in by_key(images):
            trail = Trail(self._fold)
            for _, changes in by_position(own, unplaced=True):
                found[own[0].key] = trail.go(changes)
            self.broken += trail.broken[-1:]
        return found

    def _told(self, shapes: Sequence[int], rows: Sequence[Any]) -> Iterable[dict[str, Any]]:
        by_shape = dict.fromkeys(shapes, rows)
        if len(by_shape) > 1:
            by_shape = {shape: [row for n, row in zip(shapes, rows, strict=True) if n == shape] for shape in by_shape}
        told = {shape: self._recorded.columns_of(shape, found) for shape, found in by_shape.items()}
        if len(told) <= 1:
            return next(iter(told.values()), ())
        each = {shape: iter(found) for shape, found in told.items()}
        return (next(each[shape]) for shape in shapes)


def _there(stretch: Stretch, summed: Mapping[Any, Residual | None]) -> Stretch:
    """Without those that are gone, and with what the sum comes to where it was made."""
    told: list[tuple[Any, int, Any]] = []
    for key, shape, row in zip(*stretch[:3], strict=True):
        if summed and key in summed:
            shape, row = (each.shape, each.row) if (each := summed[key]) else (shape, None)
        if row is not None:
            told.append((key, shape, row))
    keys, numbers, rows = ([each[n] for each in told] for n in range(3))
    return Stretch(keys, numbers, rows)


def _no_order(recorded: RecordedTable) -> str:
    if not recorded.shape.key:
        return f"{recorded.name} has no key by which its rows could be told page by page; ask for its whole state"
    return (
        f"the key of {recorded.name} was another one earlier, so that its rows have no order by which they could be "
        "told page by page; ask for its whole state, or take a baseline"
    )
