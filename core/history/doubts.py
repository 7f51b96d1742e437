"""What speaks against a history when an answer is given: the catalogue, as it is then. Asked by `history.history`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from actionbus.core.history.databases import database_of
from actionbus.core.history.images import Cut, Images
from actionbus.core.history.shapes import Shape, Standing


class Doubts(NamedTuple):
    """Why changes of a table may be missing, and from where on."""

    problems: tuple[str, ...] = ()
    unrecorded_since: int | None = None
    """A position."""


def doubts_of(images: Images, tables: Sequence[Sequence[Shape]], cut: Cut) -> list[Doubts]:
    """Of each table at one position; a table is given by all its shapes, those of later positions too.

    The catalogue is looked into once for all of them. Nobody notes the moment at which triggers go. Where none is left,
    it came after the last image; where some are, it may have been at any time since the shape was made. What was told
    of earlier positions stays true.
    """
    looks = database_of(images.connection).looks
    every = [shape for shapes in tables for shape in shapes]
    found = looks.standings(images.connection, images.prefix, every, None) if every else []
    by_name = dict(zip(sorted({each.table_name for each in every}), found, strict=True))
    return [_doubts(images, by_name[shapes[0].table_name], shapes, cut) for shapes in tables]


def _doubts(images: Images, standing: Standing, shapes: Sequence[Shape], cut: Cut) -> Doubts:
    stale = standing.stale if cut.is_end else ()
    if not standing.lost:
        return Doubts(stale)
    since = images.standing_since(standing.shape or shapes[-1])
    if standing.is_bare and (last := images.last_of(shapes)) is not None:
        since = max(since, last)
    if cut.position < since and not cut.is_end:
        return Doubts()
    return Doubts((*standing.lost, *stale), since)
