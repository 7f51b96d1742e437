"""From which position to which each row was there, from images of which the order does not tell. Used by the copies.

These are the rows of tables without a key, and those whose images do not follow from each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from actionbus.core.history.decoding import has_erased
from actionbus.core.history.fold import Fold
from actionbus.core.history.images import Chain, Image, Link, Residual

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


class _Counted:
    """How often each row is there."""

    def __init__(self) -> None:
        self._rows: dict[Any, Residual] = {}

    def add(self, image: Image, row: Any, times: int) -> None:
        known = self._rows.get(own := (image.shape, repr(row)))
        self._rows[own] = Residual(image.shape, image.key, row, times + (known.times if known else 0), image.image)

    def residue(self) -> list[Residual]:
        return [each for each in self._rows.values() if each.times]


def of_keys(images: Iterable[Image], fold: Fold) -> Iterator[Version]:
    """Of a table with a key: at each position the row that the fold tells."""
    by_key: dict[Any, list[Image]] = {}
    for image in images:
        by_key.setdefault((image.key, type(image.key)), []).append(image)
    for own in by_key.values():
        counted, held, since, last = _Counted(), None, 0, _Last(fold)
        for position, changes in _by_position(own):
            for image in changes:
                _add(counted, image)
                last.see(image)
            now = last.row() if last.is_known else _settled(fold, counted)
            if held is not None and held != now:
                yield Version(*held, since, position)
            since = since if held == now else position
            held = now
        if held is not None:
            yield Version(*held, since, FOREVER)


class _Last:
    """What the last image left, as long as each takes away what the one before it left."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._left: tuple[int | None, Any] = None, None
        self.is_known = True

    def see(self, image: Image) -> None:
        shape, held = self._left
        if held != image.before or (held is not None and shape != image.shape):
            link = Link(shape, held, image.shape, image.before)
            chain = Chain(image.key, image.shape, image.after, (link,))
            self.is_known = self.is_known and not self._fold.doubtful([chain])
        self._left = image.shape, image.after

    def row(self) -> tuple[int, Any] | None:
        shape, held = self._left
        return None if shape is None or held is None else (shape, held)


def _settled(fold: Fold, counted: _Counted) -> tuple[int, Any] | None:
    rows = fold.settle(counted.residue()).rows
    return (rows[0].shape, rows[0].row) if rows else None


def without_keys(images: Iterable[Image], fold: Fold) -> Iterator[Version]:
    """Of a table without a key: a row that is taken away is one that was put there, under another shape if need be."""
    there = _There(fold)
    for position, changes in _by_position(images):
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


def _by_position(images: Iterable[Image]) -> Iterator[tuple[int, Sequence[Image]]]:
    placed = sorted(
        (each for each in images if each.position is not None), key=lambda each: (each.position, each.image)
    )
    for position, found in groupby(placed, key=lambda each: each.position):
        assert position is not None  # of these
        yield position, list(found)


def _add(counted: _Counted, image: Image) -> None:
    if image.after is not None:
        counted.add(image, image.after, 1)
    if image.before is not None:
        counted.add(image, image.before, -1)
