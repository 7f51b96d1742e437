"""A table as its history has it at a position: its shape then, the images that count. Used by `history.history`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from actionbus.core.history.decoding import Values
from actionbus.core.history.fold import as_of
from actionbus.core.history.images import Cut, Images
from actionbus.core.history.shapes import Shape


@dataclass(frozen=True)
class Recorded:
    """One table at one position."""

    images: Images
    shape: Shape
    """In force there: its columns are the table's."""
    shapes: Sequence[Shape]
    """Those whose images count, oldest first."""
    since: datetime
    since_position: int | None
    since_image: int

    @classmethod
    def of(cls, images: Images, shapes: Sequence[Shape], cut: Cut) -> Recorded | None:
        """The table of these shapes; None if its history had not begun."""
        places = {each.shape: images.place_of(each) for each in shapes if each.is_baseline}
        there = [each for each in shapes if _holds(each, places.get(each.shape), cut)]
        if not there:
            return None
        begin = next((each for each in reversed(there) if each.is_baseline), there[0])
        counting = [each for each in there if each.shape >= begin.shape]
        place = places.get(begin.shape)
        return cls(images, counting[-1], counting, begin.since, place, begin.since_image)

    @property
    def name(self) -> str:
        """`schema.table` on PostgreSQL."""
        return self.shape.table_name

    @property
    def bare(self) -> str:
        """Without its schema."""
        return self.name.partition(".")[2] or self.name

    def columns_of(self, shape: int, row: Any) -> dict[str, Any]:
        """A row that was written under a shape, by the table's columns at this position."""
        written = next((each for each in self.shapes if each.shape == shape), None)
        if written is None:  # of before a baseline
            written = self.shape
        values: Values = self.images.values(written, row)
        return as_of(self.shape, written, values)


def _holds(shape: Shape, place: int | None, cut: Cut) -> bool:
    if place is not None:
        return place <= cut.position
    if cut.moment is None:
        return cut.is_end
    return shape.since_image <= cut.image and (cut.is_end or shape.since <= cut.moment)
