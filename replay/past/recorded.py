"""What history recorded of rows, record after record, as a replay goes along. Used by the replayer and the fork."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final, NamedTuple

from actionbus.core.history.history import History
from actionbus.core.history.images import Image
from actionbus.core.history.shapes import BASELINE, Shape
from actionbus.core.history.states import Rows
from actionbus.replay.past.nets import HeldRow, Net, net_of
from actionbus.replay.past.renaming import NOTHING_RENAMED, Renaming

_WINDOW: Final = 500
"""Positions whose images are read at a time."""


def images_between(
    history: History, after: int, upto: int, renaming: Renaming = NOTHING_RENAMED
) -> tuple[Mapping[int, Shape], list[Image]]:
    """All shapes, and what was recorded of rows beyond one settled position up to another."""
    with history.opened(upto) as opened:
        low = opened.images.cut(after, is_end=False)
        images = opened.images.between(opened.shapes, low, opened.cut)
        return {each.shape: renaming.shape(each) for each in opened.shapes}, images


def rows_at(history: History, position: int, renaming: Renaming = NOTHING_RENAMED) -> dict[str, list[HeldRow]]:
    """Each table with the rows that it held, as they were written."""
    with history.opened(position) as opened:
        found = {}
        for table in opened.tables:
            shapes = {each.shape: renaming.shape(each) for each in table.shapes}
            rows = Rows(opened.images, table, opened.cut).all()
            found[renaming.table(table.name)] = [
                HeldRow(shapes[each.shape], each.row) for each in rows for _ in range(each.times)
            ]
        return found


def beginnings(history: History, renaming: Renaming = NOTHING_RENAMED) -> dict[str, int]:
    """The position from which each table is known: its first baseline's, or what there was when it began empty."""
    with history.opened(None) as opened:
        first = opened.beginnings()
        places = {name: opened.images.place_of(shape) for name, shape in first.items()}
    return {
        renaming.table(name): history.journal.last_before(first[name].since) if place is None else place
        for name, place in places.items()
    }


class OfRecord(NamedTuple):
    """The images of one record."""

    position: int
    images: list[Image]
    shapes: Mapping[int, Shape]

    def nets(self) -> list[Net]:
        """What the changes of each row come to, taken together."""
        return net_of(self.images, self.shapes)

    def begun(self) -> list[str]:
        """The tables of which this is the baseline: their rows are these and no others."""
        found = {each.shape for each in self.images if each.operation == BASELINE}
        return sorted({self.shapes[each].table_name for each in found})


class RecordedImages:
    """Gives the images of a journal's records beyond a position, in the order of positions, each once."""

    def __init__(self, history: History, after: int, end: int, renaming: Renaming = NOTHING_RENAMED) -> None:
        self._history = history
        self._renaming = renaming
        self._end = end
        self._read = after
        self._waiting: deque[OfRecord] = deque()

    def through(self, position: int) -> Iterator[OfRecord]:
        """Those up to a position that were not given yet."""
        while self._read < position:
            self._next_window(position)
        while self._waiting and self._waiting[0].position <= position:
            yield self._waiting.popleft()

    def _next_window(self, position: int) -> None:
        upto = min(max(self._read + _WINDOW, position), max(self._end, position))
        shapes, images = images_between(self._history, self._read, upto, self._renaming)
        ordered = sorted(images, key=lambda each: (each.position or 0, each.image))
        for place, found in groupby(ordered, key=lambda each: each.position or 0):
            self._waiting.append(OfRecord(place, list(found), shapes))
        self._read = upto
