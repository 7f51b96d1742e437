"""Feeder absorbs the journal into one slice of one index, batch by batch. Used by the projector and by rebuilds.

One batch: read settled records; fold them over the documents that they touch; `Ledger.intend` (durable, so that no
document is ever ahead of what the journal's database keeps); write the documents; `Ledger.absorbed`. Killed anywhere,
the next feeder starts at the checkpoint again, and what was written already is left alone (see `projections.fold`).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from actionbus.core import Bus, Record
from actionbus.projections.belonging import why_not
from actionbus.projections.claim import Claim
from actionbus.projections.errors import DocumentsRefused, Held, NeedsRebuild, Stopped
from actionbus.projections.fold import Fold, Folded, Poison
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.projection import Projection
from actionbus.projections.stops import left_out
from actionbus.projections.store import Store, Stored

BATCH = 5_000
_SMOOTHING = 0.2
_PATIENCE_S = 0.5


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A batch makes many objects and no cycles; looking for some among them takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Batch(NamedTuple):
    """Records beyond `start` that could matter; there are no others up to `end`."""

    start: int
    end: int
    records: list[Record]
    is_full: bool


class Absorbed(NamedTuple):
    """What one step did."""

    records: int
    position: int
    more: bool
    """Whether there was more to read than one batch takes."""


class Feeder:
    """Feeds one slice of one index. `holder` is the claim under which it writes."""

    def __init__(
        self, bus: Bus, store: Store, ledger: Ledger, projection: type[Projection], row: Checkpoint, claim: Claim,
        batch: int = BATCH,
    ) -> None:  # fmt: skip
        self._bus, self._store, self._ledger, self._projection = bus, store, ledger, projection
        self.row, self._claim, self._batch = row, claim, batch
        self._fold = Fold(projection, row.slice, row.slices)
        self._size = batch
        """Of the next batch: halved while the store refuses one of its documents, until that is one record's."""
        self._rate: float | None = row.rate
        self._actions = projection.wanted_actions()
        self.left_out: set[int] = set()
        """Records that this version goes on without, as operators decided."""
        self._reader = ThreadPoolExecutor(1, thread_name_prefix=f"{row.index_name} reading")
        self._ahead: Future[_Batch] | None = None

    def check(self) -> None:
        """See that the index belongs to what the journal says, and what is to be left out. Raises NeedsRebuild."""
        self._reload()
        with self._telling():
            self._check()
        self.left_out = left_out(self._bus.journal, self._projection.name, self.row.version, self.row.position)

    def _check(self) -> None:
        if why := why_not(self._bus, self._store, self._ledger, self.row):
            name, index = self._projection.name, self.row.index_name
            served = self._store.aliased(name) if self.row.built else None
            mend = (
                f"run `actionbus projections rebuild {name}`"
                if served in (None, index)
                else f"readers see {served}, and `actionbus projections prune` removes this one"
            )
            raise NeedsRebuild(f"{why}; {mend}", {"rebuild": True})
        # What was absorbed was settled; what this process believes beyond that may be of a database that is no more.
        self._bus.journal.look_anew(self.row.position)

    def _reload(self) -> None:
        found = self._ledger.checkpoint(self.row.index_name, self.row.slice)
        if found is None:
            raise NeedsRebuild(f"the index {self.row.index_name} is no longer in the ledger", {"rebuild": True})
        self.row = found
        if found.told.get("refused"):
            self._size = 1  # that record is the next

    def step(self) -> Absorbed:
        """Absorb one batch. Raises Stopped, which the status then shows, Held, or what store and database raise."""
        with self._telling(), _no_garbage_collection():
            return self._step()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Whatever feeds: what stops it is in the checkpoint, for the status to show and `skip_record` to look up."""
        try:
            yield
        except Stopped as error:
            self.report("stopped", error.detail)
            raise

    def _step(self) -> Absorbed:
        started = time.monotonic()
        row = self.row
        batch = self._next_batch()
        end, records = batch.end, batch.records
        if end < row.position:
            self.check()  # the journal ends before our checkpoint
        if end <= row.position:
            return Absorbed(0, row.position, more=False)
        cut_off = row.position < row.writing_to <= end
        if cut_off:
            # Do just the batch that was cut off again, so that its count of documents comes out right.
            end, records = row.writing_to, [record for record in records if record.position <= row.writing_to]
        folded = self._fold.absorb(records, self._load, self.left_out)
        while folded.poison and self.is_to_be_left_out(folded.poison.position):
            folded = self._fold.absorb(records, self._load, self.left_out)
        if folded.poison:
            records = [record for record in records if record.position < folded.poison.position]
            end = max(folded.poison.position - 1, row.position)
        elif batch.is_full and not cut_off:
            self._ahead = self._reader.submit(self._read, end, self._size)
        if end > row.position:
            if not self._write(folded, end, len(records)):
                return Absorbed(0, row.position, more=True)
            self._size = min(2 * self._size, self._batch)
            self._rate = self._smoothed(len(records), time.monotonic() - started)
        if folded.poison:
            raise _stopped_by(folded.poison, self._projection.name)
        return Absorbed(len(records), end, batch.is_full or cut_off)

    def _next_batch(self) -> _Batch:
        """The batch read ahead while the last one was written, if it begins where we are; else one read now."""
        ahead, self._ahead = self._ahead, None
        batch = ahead.result() if ahead else None
        return batch if batch and batch.start == self.row.position else self._read(self.row.position, self._size)

    def is_to_be_left_out(self, position: int) -> bool:
        """Whether an operator decided so by now. The decision is itself a record, later than the one it is about."""
        self.left_out |= left_out(self._bus.journal, self._projection.name, self.row.version, position)
        return position in self.left_out

    def _read(self, start: int, size: int) -> _Batch:
        """The next records that could matter, and the position up to which there are no others."""
        end = self._bus.journal.settled()
        if end <= start:
            # At a hole, which may be there for good: only outlasting the writers of this moment can tell.
            end = self._bus.journal.settled(wait=True, patience=_PATIENCE_S)
        if end <= start:
            return _Batch(start, end, [], is_full=False)
        reading = self._bus.journal.read(start, size, upto=end, kind="outcome", action=self._actions, wait=False)
        records = list(reading)
        is_full = len(records) == size
        return _Batch(start, records[-1].position if is_full else end, records, is_full)

    def _load(self, keys: Collection[str]) -> Mapping[str, Stored]:
        return self._store.get_many(self.row.index_name, keys)

    def _write(self, folded: Folded, end: int, count: int) -> bool:
        """Write a batch between the two durable steps; False if less of it must be folded again, or without a skipped
        record."""
        row, holder = self.row, self._claim.holder
        documents = None if row.documents is None else row.documents + folded.appeared
        if row.writing_to > row.position and end == row.writing_to:
            documents = row.documents_then
        if folded.writes:
            row = row._replace(writing_to=max(end, row.writing_to), documents_then=documents)
            if not self._ledger.intend(row, holder):
                raise self._lost()
            self.row = row
            try:
                self._store.write_many(row.index_name, folded.writes)
            except DocumentsRefused as error:
                key, position, reason = error.refused[0]
                # An index that is being built is not mended but begun anew, see `Rebuild`: what the store took of the
                # refused record would stay in it.
                if count > 1 or (row.built and self.is_to_be_left_out(position)):
                    self.row = row._replace(documents=None, documents_then=None)  # what it counted is no longer true
                    self._size = max(1, count // 2)
                    return False
                raise Stopped(
                    str(error),
                    {"position": position, "document": key, "error": reason, "refused": True},
                ) from error
        if not self._ledger.absorbed(row, holder, end, documents, self._rate):
            raise self._lost()
        self.row = row._replace(position=end, writing_to=max(end, row.writing_to), documents=documents)
        return True

    def report(self, state: str, detail: Mapping[str, object] | None = None) -> None:
        """Show a state. Raises Held if the row is not ours any more, or not where we left it."""
        if not self._ledger.report(self.row, self._claim.holder, state, detail):
            raise self._lost()

    def sign_of_life(self) -> None:
        """Only that: an operator may just have said `retry`, which showing a state would undo. Raises Held."""
        if not self._ledger.sign_of_life(self.row, self._claim.holder):
            raise self._lost()

    def _lost(self) -> Held:
        return Held(f"another projector feeds {self.row.index_name}, or it is frozen for a swap")

    def _smoothed(self, records: int, seconds: float) -> float:
        rate = records / seconds if seconds > 0 else 0.0
        return rate if self._rate is None else self._rate + _SMOOTHING * (rate - self._rate)


def _stopped_by(poison: Poison, projection: str) -> Stopped:
    about = f" for the document {poison.key!r}" if poison.key else ""
    return Stopped(
        f"{projection} stopped before record {poison.position}{about}: {poison.error}",
        {"position": poison.position, "document": poison.key, "error": poison.error, "traceback": poison.traceback},
    )
