"""Where a table or a row was touched: whether often, or in short pieces of history. Used by `history.history`.

Pieces are ranges of positions, of each of which so many images are looked at and no more, however many there are. An
image whose number was drawn much earlier than its record's position may be missed: what comes of pieces is a sample.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final

from actionbus.core.history.images import Cut, Images
from actionbus.core.history.shapes import Shape

Pieces = Sequence[tuple[int, int]]
"""Beyond which position, and up to which; ascending, none within another."""
_AT_ONCE: Final = 200
"""Positions that one statement asks for: SQLite takes 500."""


def is_touched_more(images: Images, shapes: Sequence[Shape], key: Sequence[Any], low: int, cut: Cut, most: int) -> bool:
    """Whether more than `most` changes lie beyond a position up to a cut; of a row, in all that is recorded of it.

    Raises ValueError for what is no key.
    """
    if key:
        return images.count_of_row(shapes, shapes[-1].parts_of(key), cut, most) > most
    return images.count_between(shapes, images.cut(low, is_end=False), cut, most) > most


def touched_in(images: Images, shapes: Sequence[Shape], key: Sequence[Any], pieces: Pieces, most: int) -> list[int]:
    """The positions in pieces at which one of these tables, or a row of the last, was changed. Raises ValueError."""
    ends = _images_at(images, sorted({end for piece in pieces for end in piece}))
    archive = images.archived()
    begin = archive.image if archive else 0
    wanted = list(_wanted(images, shapes, key))
    conditions = [
        (f"{where} AND i.image > ? AND i.image <= ?", [*values, max(begin, ends[low]), ends[high]])
        for low, high in pieces
        if ends[high] > max(begin, ends[low])
        for where, values in wanted
    ]
    found = sorted(images.places(conditions, most)) if conditions else []
    highs = [high for _, high in pieces]
    return [each for each in found if (at := bisect_left(highs, each)) < len(pieces) and pieces[at][0] < each]


def _wanted(images: Images, shapes: Sequence[Shape], key: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    """What an image of them meets, as a condition with its values."""
    if not key:
        yield f"i.shape IN ({', '.join('?' * len(shapes))})", [each.shape for each in shapes]
        return
    parts = shapes[-1].parts_of(key)
    for shape in shapes:
        if len(shape.key) == len(parts):
            yield "i.shape = ? AND i.key = ?", [shape.shape, images.key_of(shape, parts)]


def _images_at(images: Images, positions: Sequence[int]) -> dict[int, int]:
    """By position, the last image that there was when its record was appended."""
    last = (
        "SELECT images_upto FROM {home}journal WHERE position <= ? AND images_upto IS NOT NULL "
        "ORDER BY position DESC LIMIT 1"
    )
    found: dict[int, int] = {}
    for start in range(0, len(positions), _AT_ONCE):
        some = positions[start : start + _AT_ONCE]
        asked = " UNION ALL ".join([f"SELECT ?, ({last})"] * len(some))
        rows = images.rows_of(asked, [each for each in some for _ in range(2)])
        found |= {position: upto or 0 for position, upto in rows}
    return found
