"""The fold: what is left when each row before a change is taken from the rows after changes. Used by `history.history`.

Exact whatever the order of images, which is not that in which things were done. It tells gaps as well: a row that was
taken away and never put there, and two rows with one key. Shapes differ in their columns, so a row that was put there
under one shape is taken away under the next by the columns that both have. A value that was erased agrees with any: it
was another's image that was erased, or the row stood on and was told in clear again (docs/decisions/0019-erasure.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise, repeat
from typing import Any, NamedTuple

from actionbus.core.history.decoding import UNKNOWN, ErasedValue, Values, has_erased
from actionbus.core.history.images import Image, Link, Residual
from actionbus.core.history.shapes import Shape
from actionbus.core.values.change import is_same, reading_of, reads_same

ValuesOf = Callable[[Shape, Sequence[Any]], Iterable[Values]]
"""The values of many rows of one shape."""


class BrokenRow(NamedTuple):
    """A row whose images do not add up: somebody changed it unseen. What is told of it is its last image."""

    key: Any
    rows: tuple[Residual, ...]
    position: int | None = None
    """Of the record by which it was noticed, where one was."""


class FoldedTable(NamedTuple):
    """The rows of one table, each as its shape has it, and what does not add up."""

    rows: list[Residual]
    broken: list[BrokenRow]


class Fold:
    """Settles what was left of the images of one table, whose shapes these are."""

    def __init__(self, shapes: Sequence[Shape], values_of: ValuesOf) -> None:
        self._shapes = {shape.shape: shape for shape in shapes}
        self._values_of = values_of
        self.is_keyed = bool(shapes) and bool(shapes[-1].key) and len({_key_of(each) for each in shapes}) == 1

    def doubtful(self, links: Iterable[tuple[Any, Link]]) -> list[Any]:
        """The keys of which an image does not take away what the one before it left, by the columns that both have."""
        found: dict[int, Any] = {}
        to_compare: dict[tuple[int, int], list[tuple[int, Any, Link]]] = {}
        for number, (key, link) in enumerate(links):
            if link.left_shape in (None, link.shape) or link.left is None or link.taken is None:
                found[number] = key
            else:
                to_compare.setdefault((link.left_shape, link.shape), []).append((number, key, link))
        for (one, other), compared in to_compare.items():
            left = self._in_common(one, [link.left for _, _, link in compared], other)
            taken = self._in_common(other, [link.taken for _, _, link in compared], one)
            differing = (n for n, (held, gone) in enumerate(zip(left, taken, strict=True)) if held != gone)
            found |= dict(compared[n][:2] for n in differing)
        return list(dict.fromkeys(found.values()))

    def settle(self, residue: Iterable[Residual]) -> FoldedTable:
        """The rows that are there."""
        if not self.is_keyed:
            return self._without_keys(list(residue))
        rows: list[Residual] = []
        broken: list[BrokenRow] = []
        by_key: dict[Any, list[Residual]] = {}
        for each in residue:
            by_key.setdefault((each.key, type(each.key)), []).append(each)
        for found in by_key.values():
            group = found if len(found) == 1 and found[0].times == 1 else self.reconciled(found)
            if len(group) == 1 and group[0].times == 1:
                rows.append(group[0])
            elif group:
                last = max(group, key=lambda each: (each.image, each.times))
                rows += [last._replace(times=1)] if last.times > 0 else []
                broken.append(BrokenRow(last.key, tuple(group)))
        return FoldedTable(rows, broken)

    def _without_keys(self, residue: list[Residual]) -> FoldedTable:
        left = self.reconciled(residue) if any(each.times < 0 for each in residue) else residue
        gone = [BrokenRow(each.key, (each,)) for each in left if each.times < 0]
        return FoldedTable([each for each in left if each.times > 0], gone)

    def reconciled(self, residue: Sequence[Residual]) -> list[Residual]:
        """What is left when rows taken away are found among those put there under another shape, or erased."""
        left = [each for each in residue if each.times > 0]
        times = [each.times for each in left]
        places = _Places(left, times, self.common, self.agree_but_erased)
        for gone in sorted((each for each in residue if each.times < 0), key=lambda each: each.image):
            missing = -gone.times
            while missing and (place := places.find(gone)) is not None:
                taken = min(missing, times[place])
                missing -= taken
                times[place] -= taken
            if missing:
                left.append(gone)
                times.append(-missing)
        return [each._replace(times=n) for each, n in zip(left, times, strict=True) if n]

    def newer(self, shape: int) -> list[int]:
        """The later shapes whose images may know more of a row under this one: they have columns that it lacks."""
        had = {*_names(self._shapes[shape])}
        return [number for number, each in self._shapes.items() if number > shape and not had >= {*_names(each)}]

    def known(self, row: Residual, images: Iterable[Image]) -> Residual:
        """A row that is left, or the same by what the last of its images knows of it, if it came out as it was."""
        newer = self.newer(row.shape)
        agree = (
            each
            for each in images
            if each.shape in newer
            and each.after is not None
            and self.common(row.shape, row.row, each.shape) == self.common(each.shape, each.after, row.shape)
        )
        last = max(agree, key=lambda each: each.image, default=None)
        return row if last is None else row._replace(shape=last.shape, row=last.after)

    def others(self, shape: int) -> list[int]:
        """The other shapes, oldest first."""
        return [each for each in self._shapes if each != shape]

    def common(self, shape: int, row: Any, other: int) -> tuple[Any, ...]:
        """What a row has in the columns that another shape has too, as it reads, in the order of the smaller number."""
        return self._in_common(shape, [row], other)[0]

    def _in_common(self, shape: int, rows: Sequence[Any], other: int) -> list[tuple[Any, ...]]:
        own, others = self._shapes[shape], self._shapes[other]
        pairs = shared(own, others) if shape < other else [pair[::-1] for pair in shared(others, own)]
        places = [place for place, _ in pairs]
        return [tuple(reading_of(values[place]) for place in places) for values in self._values_of(own, rows)]

    def agree_but_erased(self, one: int, row: Any, other: int, taken: Any) -> bool:
        """Whether two rows are the same in what neither has erased."""
        first, second = self._shapes[one], self._shapes[other]
        (held,), (others,) = self._values_of(first, [row]), self._values_of(second, [taken])
        same = is_same if one == other else reads_same
        return all(
            isinstance(held[left], ErasedValue)
            or isinstance(others[right], ErasedValue)
            or same(held[left], others[right])
            for left, right in shared(first, second)
        )


class _Places:
    """Finds rows that were put there by what they have in common with one that was taken away."""

    def __init__(
        self,
        left: Sequence[Residual],
        times: Sequence[int],
        of: Callable[[int, Any, int], Any],
        agree_but_erased: Callable[[int, Any, int, Any], bool],
    ) -> None:
        self._left = left
        self._times = times
        self._of = of
        self._agree_but_erased = agree_but_erased
        self._places = range(len(left))
        self._erased = [place for place in self._places if has_erased(left[place].row)]
        self._by_shape = {
            shape: [n for n, each in enumerate(left) if each.shape == shape]
            for shape in dict.fromkeys(each.shape for each in left)
        }
        self._known: dict[tuple[int, int], dict[Any, deque[int]]] = {}

    def find(self, gone: Residual) -> int | None:
        """The first of another shape that agrees and is there still; else one that does but for what is erased."""
        found = (
            self._first(self._index(shape, gone.shape).get(self._of(gone.shape, gone.row, shape)))
            for shape in self._by_shape
            if shape != gone.shape
        )
        first = min((place for place in found if place is not None), default=None)
        return self._find_erased(gone) if first is None else first

    def _find_erased(self, gone: Residual) -> int | None:
        for place in self._places if has_erased(gone.row) else self._erased:
            there = self._left[place]
            if self._times[place] > 0 and self._agree_but_erased(there.shape, there.row, gone.shape, gone.row):
                return place
        return None

    def _first(self, places: deque[int] | None) -> int | None:
        while places and not self._times[places[0]]:
            places.popleft()
        return places[0] if places else None

    def _index(self, shape: int, other: int) -> dict[Any, deque[int]]:
        if (shape, other) not in self._known:
            index = self._known[shape, other] = {}
            for place in self._by_shape[shape]:
                index.setdefault(self._of(shape, self._left[place].row, other), deque()).append(place)
        return self._known[shape, other]


def _key_of(shape: Shape) -> tuple[Any, ...]:
    """What tells a key's columns: their numbers, or their names."""
    if not shape.numbers:
        return shape.key
    return tuple(shape.numbers[shape.columns.index(each)] for each in shape.key)


def _names(shape: Shape) -> Sequence[Any]:
    return shape.numbers or shape.columns


def shared(one: Shape, other: Shape) -> list[tuple[int, int]]:
    """Where both have the same column; a renamed one is the same."""
    places = {name: place for place, name in enumerate(_names(other))}
    return [(place, places[name]) for place, name in enumerate(_names(one)) if name in places]


def as_of(shape: Shape, written: Shape, rows: Iterable[Values]) -> list[dict[str, Any]]:
    """Rows written under one shape, by the columns of another; those that were not recorded then are UNKNOWN."""
    names = shape.columns
    if shape.shape == written.shape:
        return list(map(dict, map(zip, repeat(names), rows)))  # a million times; a shape's rows have its columns
    there = dict(shared(shape, written))
    places = [there.get(n) for n in range(len(names))]
    return [
        {name: UNKNOWN if place is None else row[place] for name, place in zip(names, places, strict=True)}
        for row in rows
    ]


def chained(images: Sequence[Any]) -> Iterator[Any]:
    """Images of one row within one transaction as they followed from each other: `before` is the last `after`."""
    if all(one.after == other.before for one, other in pairwise(images)):
        yield from images
        return
    left = list(images)
    held: Any = _first_of(left)
    while left:
        each = next((one for one in left if one.before == held), left[0])
        left.remove(each)
        held = each.after
        yield each


def _first_of(images: Sequence[Any]) -> Any:
    """The `before` that no other image's `after` explains."""
    afters = [each.after for each in images]
    return next((each.before for each in images if each.before not in afters), images[0].before if images else None)


def by_table(shapes: Iterable[Shape]) -> Mapping[str, list[Shape]]:
    """The shapes of each table, oldest first."""
    ordered = sorted(shapes, key=lambda each: (each.table_name, each.shape))
    return {name: list(found) for name, found in groupby(ordered, key=lambda each: each.table_name)}
