"""What speaks against a history when an answer is given: the catalogue, as it is then. Asked by `history.history`."""

from __future__ import annotations

from typing import NamedTuple

from actionbus.core.history.databases import database_of
from actionbus.core.history.images import Cut, Images
from actionbus.core.history.recorded import Recorded


class Doubts(NamedTuple):
    """Why changes of a table may be missing, and from where on."""

    problems: tuple[str, ...] = ()
    unrecorded_since: int | None = None
    """A position."""


def doubts_of(images: Images, recorded: Recorded, cut: Cut) -> Doubts:
    """Of one table at one position.

    Nobody notes the moment at which triggers go. Where none is left, it came after the last image; where some are, it
    may have been at any time since the shape was made. What was told of earlier positions stays true.
    """
    looks = database_of(images.connection).looks
    (standing,) = looks.standings(images.connection, images.prefix, recorded.shapes, None)
    stale = standing.stale if cut.is_end else ()
    if not standing.lost:
        return Doubts(stale)
    image = recorded.shape.since_image
    if standing.is_bare:
        marks = ", ".join("?" * len(recorded.shapes))
        numbers = [each.shape for each in recorded.shapes]
        last = images.rows_of(f"SELECT max(image) FROM {{home}}actionbus_images WHERE shape IN ({marks})", numbers)
        image = max(image, last[0][0] or 0)
    since = images.rows_of(
        "SELECT coalesce((SELECT min(position) FROM {home}journal WHERE images_upto >= ?), max(position), 0) "
        "FROM {home}journal",
        (image,),
    )[0][0]
    if cut.position < since and not cut.is_end:
        return Doubts()
    return Doubts((*standing.lost, *stale), since)
