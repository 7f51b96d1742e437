"""Documents as they were: a projection folded up to a position, in memory, without any store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Any

from actionbus.core import Journal
from actionbus.projections.fold import Fold
from actionbus.projections.projection import Projection
from actionbus.projections.stops import left_out
from actionbus.projections.store import Stored
from actionbus.replay.errors import ReplayError

_BATCH = 1_000
Progress = Callable[[int], None]


class Documents:
    """The documents of one projection, at one position after the other. Only ever goes forward."""

    def __init__(self, journal: Journal, projection: type[Projection]) -> None:
        self._journal = journal
        self._projection = projection
        self._fold = Fold(projection)
        self._left_out = left_out(journal, projection.name, projection.version)
        self._stored: dict[str, Stored] = {}
        self.position = 0

    def go(self, position: int, progress: Progress | None = None) -> None:
        """Fold up to a position. Raises ReplayError for one that lies behind, or a record that a reducer refuses."""
        if position < self.position:
            raise ReplayError(f"documents are folded up to {self.position} already; begin anew to go back")
        records = self._journal.read(
            self.position, upto=position, kind="outcome", action=self._projection.wanted_actions()
        )
        while batch := list(islice(records, _BATCH)):
            folded = self._fold.absorb(batch, self._load, self._left_out)
            if folded.poison is not None:
                raise ReplayError(
                    f"{self._projection.name} cannot absorb the record at position {folded.poison.position}: "
                    f"{folded.poison.error}"
                )
            for write in folded.writes:
                self._stored[write.key] = Stored(write.version, write.document())
            if progress:
                progress(batch[-1].position)
        self.position = position

    def all(self) -> dict[str, dict[str, Any]]:
        """The documents by key."""
        return {key: each.document for key, each in sorted(self._stored.items()) if each.document is not None}

    def _load(self, keys: Collection[str]) -> Mapping[str, Stored]:
        return {key: self._stored[key] for key in keys if key in self._stored}


def documents_at(
    journal: Journal, projection: type[Projection], position: int, progress: Progress | None = None
) -> dict[str, dict[str, Any]]:
    """The documents as they were at a position, by key."""
    documents = Documents(journal, projection)
    documents.go(position, progress)
    return documents.all()
