"""Nets: what an action made of each row in the end, summed up from its images. Compared, and put, by the replayer.

The order of images is not the order of execution, and a row may change several times within one action; what counts is
the sum: each row before a change taken from the rows after changes. See docs/decisions/0014.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from actionbus.core.history.decoding import Decode, ErasedValue, Values, decoder_of, fields_of, has_erased
from actionbus.core.history.images import Image
from actionbus.core.history.shapes import GAP, Shape, short

_AS_IT_IS: Final = 2
"""The form of `marshal` in which only equal values have equal bytes."""


class HeldRow(NamedTuple):
    """A row as an image holds it, and the shape under which it was written."""

    shape: Shape
    row: Any

    def fields(self) -> dict[str, Any]:
        """Its columns as the database wrote them: texts on PostgreSQL, values on SQLite."""
        found = fields_of(self.row) if isinstance(self.row, str) else self.row
        return dict(zip(self.shape.columns, found, strict=True))

    def values(self) -> dict[str, Any]:
        """Its columns as Python has them."""
        found = _decoded(self.shape.types, self.row) if isinstance(self.row, str) else self.row
        return dict(zip(self.shape.columns, found, strict=True))

    def mark(self) -> Any:
        """What tells it from every other row."""
        if isinstance(self.row, str):
            return self.row
        try:
            return marshal.dumps(self.row, _AS_IT_IS)
        except ValueError:  # what was erased is no value of SQLite's; nor is a tuple
            plain = [(each.stand_in,) if isinstance(each, ErasedValue) else each for each in self.row]
            return marshal.dumps(plain, _AS_IT_IS)

    def erased(self) -> list[str]:
        """The columns whose values were erased."""
        if not has_erased(self.row):
            return []
        return [name for name, value in self.fields().items() if isinstance(value, ErasedValue)]


class Net(NamedTuple):
    """One row before and after an action; one of the two may be missing, and both be the same."""

    table: str
    key: Any
    """As images have it; None where the table has no key."""
    before: HeldRow | None
    after: HeldRow | None

    @property
    def shape(self) -> Shape:
        """Of the row after it, or else of the one before."""
        held = self.after or self.before
        assert held is not None
        return held.shape

    def is_idle(self) -> bool:
        """Whether the row was written, and is as it was."""
        return self.before is not None and self.after is not None and self.before.mark() == self.after.mark()

    def name(self) -> str:
        """The row as `table[key]`, for people."""
        held = self.after or self.before
        assert held is not None
        if not self.shape.key:
            return short(self.table)
        values = held.values()
        return f"{short(self.table)}[{','.join(str(values[each]) for each in self.shape.key)}]"


def net_of(images: Iterable[Image], shapes: Mapping[int, Shape]) -> list[Net]:
    """What these images come to, in the order in which rows were first met."""
    left: dict[Any, list[Any]] = {}
    idle: dict[Any, Net | None] = {}
    for image in images:
        shape = shapes.get(image.shape)
        if shape is None or image.operation == GAP:
            continue
        place = shape.table_name, type(image.key), image.key
        if image.operation == "u" and HeldRow(shape, image.before).mark() == HeldRow(shape, image.after).mark():
            idle.setdefault(
                place, Net(shape.table_name, image.key, HeldRow(shape, image.before), HeldRow(shape, image.after))
            )
            continue
        idle[place] = None
        for row, times in ((image.before, -1), (image.after, 1)):
            if row is not None:
                held = HeldRow(shape, row)
                counted = left.setdefault((image.shape, held.mark()), [image.key, held, 0])
                counted[2] += times
    found = _paired([(key, held, times) for key, held, times in left.values() if times])
    return found + [net for net in idle.values() if net is not None and net.shape.key]


def change_of(image: Image, shapes: Mapping[int, Shape]) -> Net:
    """One image as it is."""
    shape = shapes[image.shape]
    before, after = (None if row is None else HeldRow(shape, row) for row in (image.before, image.after))
    return Net(shape.table_name, image.key, before, after)


def are_identical(one: Iterable[Net], other: Iterable[Net]) -> bool:
    """Whether both leave the same rows, in all columns; rows that were written as they were do not count."""
    one, other = list(one), list(other)
    if len(one) == len(other) and all(map(_is_one, one, other)):
        return True
    marks = [sorted(_mark_of(each) for each in nets if not each.is_idle()) for nets in (one, other)]
    return marks[0] == marks[1]


def _is_one(net: Net, other: Net) -> bool:
    """Whether two nets are the same at first sight, as nearly always."""
    if net.table != other.table or net.key != other.key:
        return False
    return all(
        held is there
        if held is None or there is None
        else held.shape.columns == there.shape.columns and held.mark() == there.mark()
        for held, there in zip(net[2:], other[2:], strict=True)
    )


def _mark_of(net: Net) -> tuple[str, ...]:
    return net.table, *("" if held is None else f"{held.shape.columns} {held.mark()!r}" for held in net[2:])


def _paired(left: Iterable[tuple[Any, HeldRow, int]]) -> list[Net]:
    found: list[Net] = []
    open_ends: dict[Any, int] = {}
    for key, held, times in left:
        table, is_after = held.shape.table_name, times > 0
        for _ in range(abs(times)):
            place = (table, type(key), key, is_after)
            if held.shape.key and (number := open_ends.pop(place, None)) is not None:
                one = found[number]
                found[number] = one._replace(after=held) if is_after else one._replace(before=held)
                continue
            if held.shape.key:
                open_ends[table, type(key), key, not is_after] = len(found)
            found.append(Net(table, key if held.shape.key else None, *((None, held) if is_after else (held, None))))
    return found


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row changed by one action, in Python's values. `before` is None for an insert, `after` for a delete."""

    table: str
    key: tuple[Any, ...]
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @classmethod
    def of(cls, net: Net) -> RowChange:
        """A net as it is shown."""
        before, after = (None if held is None else held.values() for held in (net.before, net.after))
        whole = after or before or {}
        return cls(short(net.table), tuple(whole[each] for each in net.shape.key), before, after)

    @property
    def operation(self) -> str:
        """`insert`, `update` or `delete`."""
        return "insert" if self.before is None else "delete" if self.after is None else "update"

    def columns(self) -> dict[str, tuple[Any, Any]]:
        """What changed: column → (before, after)."""
        before, after = self.before or {}, self.after or {}
        names = dict.fromkeys([*before, *after])
        return {
            name: (before.get(name), after.get(name))
            for name in names
            if self.before is None or self.after is None or before.get(name) != after.get(name)
        }


def changes_of(nets: Iterable[Net]) -> list[RowChange]:
    """Nets as they are shown, without rows that are as they were."""
    return [RowChange.of(each) for each in nets if not each.is_idle()]


_decoders: dict[tuple[str, ...], Decode] = {}


def _decoded(types: tuple[str, ...], row: str) -> Values:
    if types not in _decoders:
        _decoders[types] = decoder_of(types)
    return next(iter(_decoders[types]([row])))
