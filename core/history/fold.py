"""The fold: what is left when each row before a change is taken from the rows after changes. Used by `history.history`.

Exact whatever the order of images, which is not that in which things were done. It tells gaps as well: a row that was
taken away and never put there, and two rows with one key. Shapes differ in their columns, so a row that was put there
under one shape is taken away under the next by the columns that both have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from actionbus.core.history.decoding import UNKNOWN, Values
from actionbus.core.history.images import Residual
from actionbus.core.history.shapes import Shape

ValuesOf = Callable[[Shape, Any], Values]


class Broken(NamedTuple):
    """A row whose images do not add up: somebody changed it unseen. What is told of it is its last image."""

    key: Any
    rows: tuple[Residual, ...]


class Folded(NamedTuple):
    """The rows of one table, each as its shape has it, and what does not add up."""

    rows: list[Residual]
    broken: list[Broken]


class Fold:
    """Settles what was left of the images of one table, whose shapes these are."""

    def __init__(self, shapes: Sequence[Shape], values_of: ValuesOf) -> None:
        self._shapes = {shape.shape: shape for shape in shapes}
        self._values_of = values_of
        self._is_keyed = bool(shapes) and bool(shapes[-1].key) and len({_key_of(each) for each in shapes}) == 1

    def settle(self, residue: Iterable[Residual]) -> Folded:
        """The rows that are there."""
        if not self._is_keyed:
            return self._without_keys(list(residue))
        rows: list[Residual] = []
        broken: list[Broken] = []
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
                broken.append(Broken(last.key, tuple(group)))
        return Folded(rows, broken)

    def _without_keys(self, residue: list[Residual]) -> Folded:
        left = self.reconciled(residue) if any(each.times < 0 for each in residue) else residue
        gone = [Broken(each.key, (each,)) for each in left if each.times < 0]
        return Folded([each for each in left if each.times > 0], gone)

    def reconciled(self, residue: Sequence[Residual]) -> list[Residual]:
        """What is left when rows taken away are found among those put there under an older or newer shape."""
        left = [each for each in residue if each.times > 0]
        for gone in sorted((each for each in residue if each.times < 0), key=lambda each: each.image):
            missing = -gone.times
            for place, there in enumerate(left):
                if missing and there.shape != gone.shape and there.times > 0 and self._agree(there, gone):
                    taken = min(missing, there.times)
                    missing -= taken
                    left[place] = there._replace(times=there.times - taken)
            if missing:
                left.append(gone._replace(times=-missing))
        return [each for each in left if each.times]

    def _agree(self, one: Residual, other: Residual) -> bool:
        first, second = self._shapes[one.shape], self._shapes[other.shape]
        held, others = self._values_of(first, one.row), self._values_of(second, other.row)
        pairs = common(first, second)
        return all(_same(held[left], others[right]) for left, right in pairs)


def _key_of(shape: Shape) -> tuple[Any, ...]:
    """What tells a key's columns: their numbers, or their names."""
    if not shape.numbers:
        return shape.key
    return tuple(shape.numbers[shape.columns.index(each)] for each in shape.key)


def _names(shape: Shape) -> Sequence[Any]:
    return shape.numbers or shape.columns


def common(one: Shape, other: Shape) -> list[tuple[int, int]]:
    """Where both have the same column; on PostgreSQL a renamed one is the same."""
    places = {name: place for place, name in enumerate(_names(other))}
    return [(place, places[name]) for place, name in enumerate(_names(one)) if name in places]


def _same(one: Any, other: Any) -> bool:
    """Whether a value is the same; where its column has another type by now, whether it reads the same."""
    return (type(one) is type(other) and repr(one) == repr(other)) or str(one) == str(other)


def as_of(shape: Shape, written: Shape, values: Values) -> dict[str, Any]:
    """A row written under one shape, by the columns of another; those that were not recorded then are UNKNOWN."""
    if shape.shape == written.shape:
        return dict(zip(shape.columns, values, strict=True))
    places = dict(common(shape, written))
    return {name: values[places[n]] if n in places else UNKNOWN for n, name in enumerate(shape.columns)}


def chained(images: Sequence[Any]) -> Iterator[Any]:
    """Images of one row within one transaction as they followed from each other: `before` is the last `after`."""
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
