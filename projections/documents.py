"""Documents as they were: a projection folded up to a position, in memory, without any store.

Called by `actionbus history documents` and applications. Of all that is told of the past this alone is told by present
code: the records are those of then, the reducers are those of now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from actionbus.core import Journal
from actionbus.projections.errors import ProjectionError
from actionbus.projections.fold import Fold
from actionbus.projections.projection import Projection
from actionbus.projections.stops import left_out
from actionbus.projections.store import StoredDocument

_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class DocumentsBasis:
    """What documents of the past rest on."""

    position: int
    projection: str
    version: int
    """Of the reducers that folded them: those of the present code."""
    records: int
    """So many were folded."""
    skipped: tuple[int, ...]
    """Positions of the records up to there that somebody decided to leave out of this version."""

    def __str__(self) -> str:
        left = f", without the skipped ones at {', '.join(map(str, self.skipped))}" if self.skipped else ""
        records = f"{self.records} record" if self.records == 1 else f"{self.records} records"
        return (
            f"folded from {records} up to position {self.position}{left}, by the reducers of {self.projection} as "
            f"the code has them now (version {self.version})"
        )


@dataclass(frozen=True, slots=True)
class DocumentsThen:
    """The documents of a projection at a position, by key."""

    documents: dict[str, dict[str, Any]]
    basis: DocumentsBasis


def documents_at(
    journal: Journal,
    projection: type[Projection],
    position: int | None = None,
    progress: Callable[[], None] | None = None,
) -> DocumentsThen:
    """The documents as they were at a position, by default the last; all of them are in memory.

    `progress` is called for each record. Raises ProjectionError for a record that a reducer refuses.
    """
    end = journal.settled() if position is None else position
    skipped = left_out(journal, projection.name, projection.version)
    fold, stored, count = Fold(projection), dict[str, StoredDocument](), 0

    def load(keys: Collection[str]) -> Mapping[str, StoredDocument]:
        return {key: stored[key] for key in keys if key in stored}

    journal.begins.require(0)
    records = journal.read(upto=end, kind="outcome", action=projection.wanted_actions())
    while batch := list(islice(records, _BATCH)):
        folded = fold.absorb(batch, load, skipped)
        if (poison := folded.poison) is not None:
            raise ProjectionError(
                f"{projection.name} cannot absorb the record at position {poison.position}: {poison.error}"
            )
        stored |= {write.key: StoredDocument(write.version, write.document()) for write in folded.writes}
        count += sum(record.position not in skipped for record in batch)
        if progress:
            for _ in batch:
                progress()
    documents = {key: each.document for key, each in sorted(stored.items()) if each.document is not None}
    left = tuple(sorted(each for each in skipped if each <= end))
    return DocumentsThen(documents, DocumentsBasis(end, projection.name, projection.version, count, left))
