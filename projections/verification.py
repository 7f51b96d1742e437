"""Verification: the index that readers see, compared with a fold of the journal of its own. Called by operations.

Why it is right beside whoever feeds the index, although documents move on while they are compared:

- A slice's checkpoint is read first, then the journal is folded up to it, then documents are read. What was absorbed up
  to a checkpoint was acknowledged by the store before, so a document that is not newer than the checkpoint must be as
  the fold has it, deleted or never made ones included.
- A document of version v holds the effect of every record up to v and of none beyond, whoever is half through which
  batch. So one that is newer than the checkpoint must be as the journal folded up to that version has it; its record is
  settled, since `Ledger.intend` comes before a write. No document is ever too fast to be judged, none is left out.
- Searches show what was there some time ago. So what they make look wrong is only suspected, and judged by a read of
  the document itself.
- Which records are left out, by decision or as refused, may change meanwhile, and documents are then mended without
  getting another version. So what that is is read before and after documents are, and if it changed they are judged
  anew. The same holds for how far tombstones were cleared away: beyond that, a document that is not there was never
  deleted.

Partial answers of the store are errors (`Store`), never taken for missing documents.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Final

from actionbus.core import Bus, Record
from actionbus.projections.belonging import why_not_whole
from actionbus.projections.catalogue import Catalogue
from actionbus.projections.discrepancy import Discrepancy, is_same, pages, weighed, wrong
from actionbus.projections.entries import Room
from actionbus.projections.errors import ProjectionError
from actionbus.projections.fold import Fold, stopped_by
from actionbus.projections.folded_documents import FoldedDocuments
from actionbus.projections.holding import Holding, Sample
from actionbus.projections.projection import Projection, Reducer
from actionbus.projections.shared_reading import SharedReading, WantedRecords
from actionbus.projections.stops import left_out
from actionbus.projections.store import StoredDocument, Write
from actionbus.projections.verified import VerifiedIndex

Watch = Callable[[str, int, int], None]
Wants = Callable[[str, int], bool]
"""Whether the record at a position is folded into the document with a key."""
_BATCH: Final = 5_000
_ROOM: Final = Room(documents=10_000, bytes=32_000_000)
_PAGE: Final = 500
"""Documents compared at a time."""
_FEW: Final = 100
"""Documents judged at a time."""
_TRIES: Final = 50
_PAUSE_S: Final = 0.2
"""How often documents are judged anew while operators decide what is left out, and how long between."""


class _SomeFold(Fold):
    """Folds what is wanted of records."""

    def __init__(self, projection: type[Projection], wants: Wants) -> None:
        super().__init__(projection)
        self._wants = wants

    def keys(self, record: Record) -> list[tuple[Reducer, list[str]]]:
        """Those of a record's documents that are wanted."""
        wants, position = self._wants, record.position
        found = [(reducer, [key for key in keys if wants(key, position)]) for reducer, keys in super().keys(record)]
        return [(reducer, keys) for reducer, keys in found if keys]


class Verification:
    """Of one projection. Iterate over it for what is wrong; `outcome` then says what was seen in all."""

    def __init__(
        self, bus: Bus, catalogue: Catalogue, projection: type[Projection], watch: Watch, sample: int | None
    ) -> None:
        self._bus, self._catalogue, self._projection, self._watch = bus, catalogue, projection, watch
        self._store, self._ledger, self._sample = catalogue.store, catalogue.ledger, sample
        self._wanted = WantedRecords.outcomes_of(projection.wanted_actions())
        self.outcome: VerifiedIndex | None = None
        """Noted in the database, too, for status and metrics."""

    def __iter__(self) -> Iterator[Discrepancy]:
        self._index = self._served()
        documents = differences = 0
        with closing(FoldedDocuments()) as self._folded:
            self._first = self._reached = self._basis()
            chosen = self._chosen() if self._sample else None
            self._fold(self._first, chosen)
            documents = self._suspect_whole() if chosen is None else self._suspect_some(chosen)
            done, total = 0, self._folded.count_suspects()
            suspects = self._folded.suspects()
            while keys := list(islice(suspects, _FEW)):
                for each in self._judged(keys):
                    differences += 1
                    yield each
                done += len(keys)
                self._watch("looking again", done, total)
        problem = why_not_whole(self._store, self._ledger, self._basis().rows[0])
        self.outcome = VerifiedIndex(
            self._index,
            self._projection.name,
            time.time(),
            min(row.position for row in self._first.rows),
            self._sample is None,
            documents,
            differences,
            problem,
        )
        self._catalogue.verifications.put(self.outcome)

    def _served(self) -> str:
        """The index that readers see. Raises NeedsRebuild if this code does not feed it."""
        served = self._store.aliased(self._projection.name)
        rows = [row for row in self._ledger.checkpoints(self._projection.name) if row.index_name == served]
        if served is None or any(row.version != self._projection.version for row in rows):
            raise self._catalogue.outdated(self._projection)
        if not rows or not self._catalogue.is_ours(self._projection, served):
            raise self._catalogue.stranger(self._projection, served)
        return served

    def _basis(self) -> Holding:
        info = self._store.info(self._index)
        rows = self._ledger.checkpoints(index=self._index)
        if not rows:
            raise ProjectionError(f"the index {self._index} was removed while it was verified; begin again")
        last = self._bus.journal.last()
        rows = [row._replace(position=min(row.position, last)) for row in rows]
        self._is_settled_to(max(row.position for row in rows))
        decided = left_out(
            self._bus.journal, self._projection.name, self._projection.version, min(row.decided_to for row in rows)
        )
        pending = [frozenset(decided - row.without - row.refusals) for row in rows]
        without = [frozenset(row.without | row.refusals | decided) for row in rows]
        return Holding(rows, without, pending, info.pruned_to)

    def _fold(self, basis: Holding, chosen: Callable[[str], bool] | None) -> None:
        """The journal from its start, up to where the slices are."""

        def wants(key: str, position: int) -> bool:
            part = basis.row_of(key)
            if position > basis.rows[part].position or position in basis.without[part]:
                return False
            return chosen is None or chosen(key)

        self._chooses = chosen
        end = max(row.position for row in basis.rows)
        self._absorb(wants, basis, 0, end, self._folded.load, self._folded.put, tell=True)

    def _go_on(self, basis: Holding) -> None:
        """The same from where that ended, up to where the slices are now."""
        before = self._reached
        if len(before.rows) != len(basis.rows) or all(
            new.position <= old.position for new, old in zip(basis.rows, before.rows, strict=True)
        ):
            return

        def wants(key: str, position: int) -> bool:
            part = basis.row_of(key)
            is_new = before.rows[part].position < position <= basis.rows[part].position
            return is_new and basis.holds(key, position) and (self._chooses is None or self._chooses(key))

        start = min(row.position for row in before.rows)
        self._absorb(wants, basis, start, max(row.position for row in basis.rows), self._folded.load, self._folded.put)
        self._reached = basis

    def _absorb(
        self,
        wants: Wants,
        basis: Holding,
        start: int,
        end: int,
        load: Callable[[Collection[str]], Mapping[str, StoredDocument]],
        put: Callable[[Sequence[Write]], None],
        *,
        tell: bool = False,
    ) -> None:
        """Fold records beyond `start`. Raises ProjectionStopped where the present reducers cannot."""
        journal = SharedReading(self._bus.journal).follower(self._wanted)
        fold = _SomeFold(self._projection, wants)
        everywhere = frozenset.intersection(*basis.without)
        while start < end:
            batch = journal.read(start, _BATCH)
            if batch.end <= start:
                raise ProjectionError(f"the journal ends at {batch.end}, before {end}: it was replaced; begin anew")
            records = [record for record in batch.records if record.position <= end]
            while records:
                folded = fold.absorb(records, load, everywhere, _ROOM)
                for part in [folded] if folded.great is None else fold.in_parts(folded.great, load, _ROOM):
                    put(part.writes)
                    if part.poison:
                        raise stopped_by(part.poison, f"the verification of {self._projection.name}")
                records = [record for record in records if folded.beyond and record.position >= folded.beyond]
            start = batch.end
            if tell:
                self._watch("folding", min(start, end), end)

    def _suspect_whole(self) -> int:
        """Compare all that a search shows with the fold, and suspect what looks wrong; how many documents that were."""
        count, total = 0, sum(row.documents or 0 for row in self._first.rows)
        for page in pages(self._store.scan(self._index)):
            self._folded.suspect(self._unlike(page))
            self._folded.see(page)
            count += len(page)
            self._watch("comparing", count, max(total, count))
        return count + self._folded.suspect_the_unseen()

    def _suspect_some(self, chosen: Sample) -> int:
        """The same with a sample: documents chosen by their keys in the journal, and some of the index."""
        count, total = 0, len(chosen.keys)
        keys = iter(dict.fromkeys([*chosen.keys, *self._folded.keys()]))
        while page := list(islice(keys, _FEW)):
            stored = self._store.get_many(self._index, page)
            none = StoredDocument(0, None)
            self._folded.suspect(self._unlike({key: weighed(stored.get(key, none)) for key in page}))
            count += len(page)
            self._watch("comparing", count, max(total, count))
        return count

    def _unlike(self, page: Mapping[str, tuple[int, bytes | None]]) -> list[str]:
        """The keys of those that the fold has otherwise, or that are newer."""
        texts, first = self._folded.texts(page), self._first
        return [
            key
            for key, (version, text) in page.items()
            if version > first.rows[first.row_of(key)].position or not is_same(text, texts.get(key, (0, None))[1])
        ]

    def _chosen(self) -> Sample:
        size = self._sample or 0
        count = max(self._store.totals(self._index).documents, sum(row.documents or 0 for row in self._first.rows))
        return Sample(frozenset(self._store.sample(self._index, size)), max(1, count // size))

    def _judged(self, keys: Sequence[str]) -> list[Discrepancy]:
        """Which of some documents are wrong."""
        for _ in range(_TRIES):
            basis = self._basis()
            stored = self._store.get_many(self._index, keys)
            written_to = self._written_to()
            found = wrong(stored, self._expected(basis, stored, keys, written_to), written_to)
            if found and any(basis.pending):
                known = self._expected(basis.without_pending(), stored, keys, written_to)
                still = {each.key for each in wrong(stored, known, written_to)}
                found = [each for each in found if each.key in still]
            if not found or basis.agrees_with(self._basis()):
                return found
            time.sleep(_PAUSE_S)
        raise ProjectionError(
            f"{self._projection.name} cannot be verified: what is left out of it, or its slices, changed {_TRIES} "
            "times while a few documents were looked at; try again later"
        )

    def _written_to(self) -> int:
        """The greatest version that may have been written from here. All up to there is settled: `Ledger.intend`."""
        rows = self._ledger.checkpoints(index=self._index)
        found = min(max((max(row.position, row.writing_to) for row in rows), default=0), self._bus.journal.last())
        self._is_settled_to(found)
        return found

    def _is_settled_to(self, position: int) -> None:
        """Let the journal know what this process has not seen for itself, and may be long in finding out."""
        if self._bus.journal.settled() < position:
            self._bus.journal.look_again(position)

    def _expected(
        self, basis: Holding, stored: Mapping[str, StoredDocument], keys: Sequence[str], written_to: int
    ) -> dict[str, dict[str, Any] | None]:
        """What documents must be, each as of its checkpoint or, if it is newer, of its version."""
        start, folded = 0, dict[str, StoredDocument]()
        if (basis.without, len(basis.rows)) == (self._first.without, len(self._first.rows)):
            self._go_on(basis)
            start = min(row.position for row in self._reached.rows)
            folded = dict(self._folded.load(keys))
        before = self._reached if start else None
        upto = {key: basis.rows[basis.row_of(key)].position for key in keys}
        upto |= {key: max(upto[key], each.version) for key, each in stored.items() if each.version <= written_to}

        def wants(key: str, position: int) -> bool:
            done = before.rows[before.row_of(key)].position if before else 0
            return done < position <= upto.get(key, 0) and basis.holds(key, position)

        def load(some: Collection[str]) -> dict[str, StoredDocument]:
            return {key: folded[key] for key in some if key in folded}

        def put(writes: Sequence[Write]) -> None:
            folded.update({each.key: StoredDocument(each.version, each.document()) for each in writes})

        if any(each > (before.rows[before.row_of(key)].position if before else 0) for key, each in upto.items()):
            self._absorb(wants, basis, start, max(upto.values()), load, put)
        return {key: folded[key].document if key in folded else None for key in keys}
