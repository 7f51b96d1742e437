"""From which position to which each row was there, from images of which the order does not tell. Used by the copies.

These are the rows of tables without a key, and those whose images do not follow from each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from actionbus.core.history.decoding import has_erased
from actionbus.core.history.fold import BrokenRow, Fold
from actionbus.core.history.images import Image, Link, Residual

_Own = tuple[int, str]
"""What tells a row from others: its shape, and all that is in it."""
FOREVER: Final = 2**62
"""Beyond every position and every number of an image."""


class Version(NamedTuple):
    """A row, and between which positions it was there: from `since` to before `until`."""

    shape: int
    row: Any
    since: int
    until: int


class _RowCounts:
    """How often each row is there."""

    def __init__(self) -> None:
        self._rows: dict[Any, Residual] = {}

    def add(self, each: Residual) -> None:
        known = self._rows.get(own := (each.shape, repr(each.row)))
        times = each.times + (known.times if known else 0)
        if times:
            self._rows[own] = each._replace(times=times)
        else:
            del self._rows[own]

    def residue(self) -> list[Residual]:
        return list(self._rows.values())


class Trail:
    """What the images of one key come to, one record after the other.

    Within a record they have any order, so that the sum tells. It alone tells wrong where something went unseen between
    records: when what took its place goes, the first is left. So there must be an order, too, in which each image takes
    away what is there: as with a trail of Euler's, where the sum tells the end, and all of it must hang together. Where
    there is none, the last image tells, and what is owed from before is forgotten.
    """

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._counted = _RowCounts()
        self._last = _Last(fold)
        self._seen: list[Image] = []
        self._row: Residual | None = None
        self.broken: list[BrokenRow] = []

    def go(self, changes: Sequence[Image]) -> Residual | None:
        """The row after one more record, None if there is none."""
        held = self._row
        for image in changes:
            self._last.see(image)
            for each in _both(image):
                self._counted.add(each)
        self._seen += changes
        self._row = self._last.row() if self._last.is_known else self._settled(held, changes)
        return self._row

    def _settled(self, held: Residual | None, changes: Sequence[Image]) -> Residual | None:
        left = self._counted.residue()
        folded = self._fold.settle(left)
        rows = folded.rows
        if folded.broken or not _hangs_together(held, changes):
            last = max(changes, key=lambda each: each.image)
            rows = [each for each in _both(last) if each.times > 0]
            found = folded.broken or [BrokenRow(last.key, tuple(_both(last)))]
            self.broken += [each._replace(position=last.position) for each in found]
            self._counted = _RowCounts()
            for each in rows:
                self._counted.add(each)
        return self._fold.known(rows[0], self._seen) if rows else None


def _hangs_together(held: Residual | None, changes: Sequence[Image]) -> bool:
    """Whether each of these images can be reached from what is there. Of several shapes, or erased, nobody knows."""
    rows = [row for each in changes for row in (each.before, each.after) if row is not None]
    if {each.shape for each in changes} | ({held.shape} if held else set()) != {changes[0].shape}:
        return True
    if any(map(has_erased, [*rows, *([held.row] if held else [])])):
        return True
    reached = {repr(held.row) if held else None}
    left = list(changes)
    while left:
        rest = []
        for each in left:
            if (None if each.before is None else repr(each.before)) in reached:
                reached.add(None if each.after is None else repr(each.after))
            else:
                rest.append(each)
        if len(rest) == len(left):
            return False
        left = rest
    return True


def of_keys(images: Iterable[Image], fold: Fold) -> Iterator[Version]:
    """Of a table with a key: at each position the row that the fold tells."""
    for own in by_key(images):
        trail, since, held = Trail(fold), 0, None
        for position, changes in by_position(own):
            row = trail.go(changes)
            now = None if row is None else (row.shape, row.row)
            if held is not None and held != now:
                yield Version(*held, since, position)
            since = since if held == now else position
            held = now
        if held is not None:
            yield Version(*held, since, FOREVER)


def by_key(images: Iterable[Image]) -> Iterable[list[Image]]:
    """The images of each row."""
    found: dict[Any, list[Image]] = {}
    for image in images:
        found.setdefault((image.key, type(image.key)), []).append(image)
    return found.values()


class _Last:
    """What the last image left, as long as each takes away what the one before it left."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._row: Residual | None = None
        self.is_known = True

    def see(self, image: Image) -> None:
        shape, held = (self._row.shape, self._row.row) if self._row else (None, None)
        if held != image.before or (held is not None and shape != image.shape):
            link = Link(shape, held, image.shape, image.before)
            self.is_known = self.is_known and not self._fold.doubtful([(image.key, link)])
        self._row = next((each for each in _both(image) if each.times > 0), None)

    def row(self) -> Residual | None:
        return self._row


def without_keys(images: Iterable[Image], fold: Fold) -> Iterator[Version]:
    """Of a table without a key: a row that is taken away is one that was put there, under another shape if need be."""
    there = _There(fold)
    for position, changes in by_position(images):
        for each in changes:
            if each.after is not None:
                there.put(each.shape, each.after, position)
        for each in changes:
            if each.before is not None and (version := there.take(each.shape, each.before, position)):
                yield version
    yield from there.left()


class _There:
    """The rows that are there, since when each."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._rows: dict[_Own, tuple[Any, list[int]]] = {}
        self._owed: Counter[_Own] = Counter()
        self._alike: dict[tuple[int, int], dict[Any, dict[_Own, None]]] = {}
        self._erased: dict[_Own, None] = {}
        """Those of them that have erased values."""

    def put(self, shape: int, row: Any, position: int) -> None:
        own = shape, repr(row)
        if self._owed[own]:
            self._owed[own] -= 1
            return
        self._rows.setdefault(own, (row, []))[1].append(position)
        if has_erased(row):
            self._erased[own] = None
        for (there, other), alike in self._alike.items():
            if there == shape:
                alike.setdefault(self._fold.common(shape, row, other), {})[own] = None

    def take(self, shape: int, row: Any, position: int) -> Version | None:
        own = shape, repr(row)
        if own not in self._rows and (found := self._of_other_shape(shape, row) or self._but_erased(shape, row)):
            own = found
        if own not in self._rows:
            self._owed[own] += 1
            return None
        held, since = self._rows[own]
        begun = since.pop()
        if not since:
            del self._rows[own]
            self._erased.pop(own, None)
        return Version(own[0], held, begun, position) if begun < position else None

    def left(self) -> Iterator[Version]:
        for (shape, _), (row, since) in self._rows.items():
            yield from (Version(shape, row, begun, FOREVER) for begun in since)

    def _of_other_shape(self, shape: int, row: Any) -> _Own | None:
        for there in self._fold.others(shape):
            found = self._index(there, shape).get(self._fold.common(shape, row, there), {})
            while found:
                own = next(iter(found))
                if own in self._rows:
                    return own
                del found[own]
        return None

    def _but_erased(self, shape: int, row: Any) -> _Own | None:
        for own in self._rows if has_erased(row) else self._erased:
            if self._fold.agree_but_erased(own[0], self._rows[own][0], shape, row):
                return own
        return None

    def _index(self, there: int, shape: int) -> dict[Any, dict[_Own, None]]:
        if (there, shape) not in self._alike:
            alike = self._alike[there, shape] = {}
            for own, (row, _) in self._rows.items():
                if own[0] == there:
                    alike.setdefault(self._fold.common(there, row, shape), {})[own] = None
        return self._alike[there, shape]


def by_position(images: Iterable[Image], *, unplaced: bool = False) -> Iterator[tuple[int, Sequence[Image]]]:
    """The images of each record; those that none has are left out, or come last, at a position beyond all."""
    there = ((FOREVER if each.position is None else each.position, each.image, each) for each in images)
    placed = sorted((each for each in there if unplaced or each[0] < FOREVER), key=lambda each: each[:2])
    for position, found in groupby(placed, key=lambda each: each[0]):
        yield position, [each for _, _, each in found]


def _both(image: Image) -> list[Residual]:
    """What an image puts there, and what it takes away."""
    sides = ((image.before, -1), (image.after, 1))
    return [Residual(image.shape, image.key, row, times, image.image) for row, times in sides if row is not None]
