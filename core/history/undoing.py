"""What an action made of rows in the end, summed up from its images, and the same as changes to be put back.

Used by `history.reverting`. The order of images is not that of execution, so a row is what it was before any of them
and what it is after all: each row before a change is taken from the rows after changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from actionbus.core.history.decoding import UNKNOWN, ErasedValue, fields_of
from actionbus.core.history.fold import as_of
from actionbus.core.history.images import Image
from actionbus.core.history.shapes import GAP, Shape
from actionbus.core.values.change import is_same

Stored = dict[str, Any]
"""A row by the columns that its table has now, each as the database stores it (SQLite) or writes it (PostgreSQL)."""
WHOLE: Final = ""
"""Stands among the columns of a difference for the row itself: whether it is there."""


@dataclass(frozen=True, slots=True)
class NetChange:
    """One row before and after an action; None where there was none."""

    shape: Shape
    """Its table's, as it is now."""
    before: Stored | None
    after: Stored | None
    lost: Mapping[str, tuple[Any, Any]]
    """What it was and became in columns that the table has no longer."""
    order: int

    @property
    def key(self) -> dict[str, Any]:
        """Of the row as the action left it, or as it removed it; empty where the table has none."""
        whole = self.after if self.after is not None else self.before
        assert whole is not None
        return {name: whole[name] for name in self.shape.key}

    def changed(self) -> dict[str, tuple[Any, Any]]:
        """The columns that differ, each before and after."""
        return {
            name: (was, now) for name, (was, now) in _sides(self.before, self.after).items() if not is_same(was, now)
        }


def made_by(images: Iterable[Image], shapes: Mapping[int, Shape], present: Mapping[str, Shape]) -> list[NetChange]:
    """What these images come to, row by row, in the order of the last image of each; idle rows too."""
    by_row: dict[Any, list[Image]] = {}
    for image in images:
        shape = shapes[image.shape]
        if image.operation != GAP and shape.table_name in present:
            own = (shape.table_name, type(image.key), image.key if shape.key else None)
            by_row.setdefault(own, []).append(image)
    found: list[NetChange] = []
    for (table, *_), of_row in by_row.items():
        found += _summed(of_row, shapes, present[table])
    return sorted(found, key=lambda each: each.order)


def _summed(images: list[Image], shapes: Mapping[int, Shape], present: Shape) -> Iterator[NetChange]:
    befores = [(each.image, each.shape, each.before) for each in images if each.before is not None]
    afters = [(each.image, each.shape, each.after) for each in images if each.after is not None]
    for held in list(afters):
        same = next((each for each in befores if each[1] == held[1] and _mark(each[2]) == _mark(held[2])), None)
        if same is not None:
            befores.remove(same)
            afters.remove(held)
    last = max(each.image for each in images)
    if not befores and not afters:
        row = next((each for each in images if each.operation == "u"), None)
        if row is not None and images[-1].after is not None:  # written, and as it was
            yield _made(row, (row.shape, row.before), (row.shape, row.before), shapes, present, last)
        return
    if present.key:
        before, after = (befores[:1], afters[-1:])
        yield _made(
            images[0], before[0][1:] if before else None, after[0][1:] if after else None, shapes, present, last
        )
        return
    for number, *gone in befores:
        yield _made(images[0], tuple(gone), None, shapes, present, number)
    for number, *come in afters:
        yield _made(images[0], None, tuple(come), shapes, present, number)


def _made(image: Image, before: Any, after: Any, shapes: Mapping[int, Shape], present: Shape, order: int) -> NetChange:
    rows = [None if held is None else _stored(shapes[held[0]], held[1], present) for held in (before, after)]
    lost = [None if held is None else _lost(shapes[held[0]], held[1], present) for held in (before, after)]
    return NetChange(present, rows[0], rows[1], _sides(*lost), order)


def fields(row: Any) -> Any:
    """A row's fields as the database stores or writes them."""
    return fields_of(row) if isinstance(row, str) else row


def _stored(written: Shape, row: Any, present: Shape) -> Stored:
    return as_of(present, written, [fields(row)])[0]


def _lost(written: Shape, row: Any, present: Shape) -> Stored:
    names, own = (each.numbers or each.columns for each in (written, present))
    return {written.columns[place]: value for place, value in enumerate(fields(row)) if names[place] not in own}


def _sides(before: Stored | None, after: Stored | None) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*(before or {}), *(after or {})])
    return {name: ((before or {}).get(name, UNKNOWN), (after or {}).get(name, UNKNOWN)) for name in names}


def is_known(value: Any) -> bool:
    """Whether a value was recorded and not erased."""
    return value is not UNKNOWN and not isinstance(value, ErasedValue)


def _mark(row: Any) -> Any:
    return row if isinstance(row, str) else repr(row)


def differences(
    made: Iterable[NetChange], computed: Mapping[str, frozenset[str]], *, undone: bool = False
) -> dict[Any, Any]:
    """By table, key and column, what became of it; `undone` is the same the other way round.

    What the database computes follows from the rest and is left out. Of what was erased or not recorded nobody knows.
    Rows without a key are counted.
    """
    found: dict[Any, Any] = {}
    for each in made:
        sides = (each.after, each.before) if undone else (each.before, each.after)
        table, key = each.shape.table_name, repr(each.key)
        if not each.shape.key:
            for row, times in zip(sides, (-1, 1), strict=True):
                if row is not None:
                    place = (table, repr(sorted(row.items())), WHOLE)
                    found[place] = found.get(place, 0) + times
            continue
        is_whole = None in sides
        if is_whole:
            found[table, key, WHOLE] = "gone" if sides[1] is None else "there"
        for name, (was, now) in _sides(*sides).items():
            if name in computed.get(table, ()):
                continue
            if not is_known(now if sides[0] is None else was) or not is_known(was if sides[1] is None else now):
                found[table, key, name] = UNKNOWN
            elif is_whole or not is_same(was, now):
                found[table, key, name] = (was, now)
    return {place: value for place, value in found.items() if value != 0}


def unlike(expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> list[Any]:
    """The places at which two of these differ in what is known of both."""
    return [
        place
        for place in dict.fromkeys([*expected, *found])
        if expected.get(place) is not UNKNOWN
        and found.get(place) is not UNKNOWN
        and repr(expected.get(place)) != repr(found.get(place))
    ]
