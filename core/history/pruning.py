"""Prunes row images that are older than their table is to be kept (`keep`). Used by `replay.archives.prune`.

The state of the table at the end of what goes stays, as its baseline there. Nothing is kept of what goes, unless it was
archived before; records of the journal are not touched: their personal values are unreadable once they are erased.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from actionbus.core.declare.application import Application, narrowed
from actionbus.core.declare.personal import keep_of
from actionbus.core.errors import HistoryError
from actionbus.core.history.archiving import ACTIONS, ArchiveCut, alone, note, place_at, refuse_unfinished
from actionbus.core.history.databases import database_of
from actionbus.core.history.declared import read_declared
from actionbus.core.history.fold import by_table
from actionbus.core.history.history import History
from actionbus.core.storage.history_ddl import IMAGES
from actionbus.core.storage.names import in_text


class Due(NamedTuple):
    """A table of which some history is older than it is to be kept."""

    table: str
    keep: str
    place: ArchiveCut
    images: int
    """How many lie before; some of them become the baseline."""


def due(history: History, now: datetime, counted: Callable[[], None]) -> list[Due]:
    """What is to be pruned by now."""
    journal, backend = history.journal, history.journal.backend
    declared = backend.read(lambda connection: read_declared(connection, backend.prefix))
    found: list[Due] = []
    for name, kept in sorted(declared.items()):
        if kept.keep is None:
            continue
        try:
            place = place_at(journal, journal.last_before(now - keep_of(kept.keep)))
        except HistoryError:  # nothing is so old
            continue
        place, images = _of_table(history, name, place)
        counted()
        if images:
            found.append(Due(name, kept.keep, place, images))
    return found


def _of_table(history: History, name: str, place: ArchiveCut) -> tuple[ArchiveCut, int]:
    """The same of one table alone, and how many of its images are no baseline there yet."""
    backend = history.journal.backend
    with backend.connection() as connection:
        images = database_of(connection).images(backend, connection)
        with images.snapshot():
            shapes = by_table(database_of(connection).shapes(connection, backend.prefix)).get(name, [])
            own = tuple(each.shape for each in shapes if each.shape in place.shapes)
            marks = ", ".join("?" * len(own)) or "NULL"
            sql = f"SELECT count(*) FROM {{home}}{IMAGES} WHERE shape IN ({marks}) AND operation IN ('i', 'u', 'd')"
            count = images.rows_of(f"{sql} AND image <= ?", (*own, place.cut.image))[0][0]
            if later := images.later(place.cut):
                of_later = ", ".join("?" * len(later))
                count -= images.rows_of(f"{sql} AND image IN ({of_later})", (*own, *later))[0][0]
            return ArchiveCut(place.after, place.cut, own), int(count)


class Pruning:
    """The work of `prune_history`: removes images that are older than is kept."""

    def __init__(self, history: History, tables: Sequence[Due]) -> None:
        self._backend, self._tables = history.journal.backend, tables

    def application(self, application: Application) -> Application:
        """With the one action that does the work, and who is asked for its permission."""
        return narrowed(application, ACTIONS, archiving=self)

    def prune(self, session: Session) -> dict[str, Any]:
        """Note what is to be removed, in the session's transaction. Raises InvalidArguments while others remove."""
        connection = session.connection()
        alone(connection, in_text(self._backend.prefix))
        refuse_unfinished(self._backend, connection)
        told = {"folder": None, "digest": None, "records": 0}
        for each in self._tables:
            note(self._backend, connection, each.place, each.table, told | {"images": each.images})
        return {
            each.table: {"keep": each.keep, "upto": each.place.upto, "images": each.images} for each in self._tables
        }
