"""A table as its history has it at a position: its shape then, the images that count. Used by `history.history`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from actionbus.core.errors import HistoryError
from actionbus.core.history.fold import as_of
from actionbus.core.history.images import Cut, Images
from actionbus.core.history.shapes import Shape
from actionbus.core.values.row_keys import key_text


@dataclass(frozen=True)
class RecordedTable:
    """One table at one position."""

    images: Images
    shape: Shape
    """In force there: its columns are the table's."""
    shapes: Sequence[Shape]
    """Those whose images count, oldest first."""
    written: Mapping[int, Shape]
    """All shapes that the table ever had, by number: rows of before a baseline have others."""
    since: datetime
    since_position: int | None
    since_image: int

    @classmethod
    def of(cls, images: Images, shapes: Sequence[Shape], cut: Cut) -> RecordedTable | None:
        """The table of these shapes; None if its history had not begun."""
        there = [each for each in shapes if holds(images, each, cut)]
        return cls.in_force(images, there, shapes) if there else None

    @classmethod
    def in_force(cls, images: Images, there: Sequence[Shape], shapes: Sequence[Shape]) -> RecordedTable:
        """The table of some of its shapes, which are known to have been in force."""
        begin = next((each for each in reversed(there) if each.is_baseline), there[0])
        counting = [each for each in there if each.shape >= begin.shape]
        gone = images.archived(begin.shape)
        since, place = begin.since, images.place_of(begin) if begin.is_baseline or gone else None
        written = {each.shape: each for each in shapes}
        return cls(images, counting[-1], counting, written, gone.moment if gone else since, place, begin.since_image)

    @property
    def name(self) -> str:
        """`schema.table` on PostgreSQL."""
        return self.shape.table_name

    @property
    def bare(self) -> str:
        """Without its schema."""
        return self.shape.bare

    def columns_of(self, shape: int, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Rows that were written under a shape, by the table's columns at this position."""
        written = self.written[shape]
        return as_of(self.shape, written, self.images.values(written, rows))

    def parts_of(self, key: Any) -> tuple[Any, ...]:
        """The values of a key as a caller gives it, one or a tuple. Raises HistoryError."""
        parts = self.shape.parts_of(key)
        names = self.shape.key
        if not names:
            raise HistoryError(f"{self.name} has no key, so no row of it can be named; ask for its state instead")
        if len(parts) != len(names):
            raise HistoryError(
                f"the key of {self.name} has {len(names)} parts: {', '.join(names)}; not {parts!r}. They are given "
                "with commas between, or as a JSON array where a comma is in one"
            )
        return parts

    def key_of(self, key: Any) -> Any:
        """The same as images have it. Raises HistoryError."""
        parts = self.parts_of(key)
        try:
            return self.images.key_of(self.shape, parts)
        except ValueError as error:
            raise self.no_key(parts, error) from None

    def no_key(self, parts: Sequence[Any], error: ValueError) -> HistoryError:
        """What is raised where these values cannot be those of the key's columns."""
        told = key_text([str(each) for each in parts])
        return HistoryError(f"{told!r} is not a key of {self.name} ({', '.join(self.shape.key)}): {error}")


def holds(images: Images, shape: Shape, cut: Cut) -> bool:
    """Whether a shape was in force by then, or had been."""
    # The record of the installation tells, where there is one; else what was noted when the shape was made.
    if (place := images.place_of(shape)) is not None:
        return place <= cut.position
    if shape.since_position is not None:
        return cut.is_end or shape.since_position < cut.position
    if cut.moment is None:
        return cut.is_end
    return shape.since_image <= cut.image and (cut.is_end or shape.since <= cut.moment)
