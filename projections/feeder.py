"""Feeder absorbs the journal into one slice of one index, batch by batch. Used by the projector and by rebuilds.

One batch: read settled records, as others do (`projections.shared_reading`); fold them over the documents that they
touch; `Ledger.intend` (durable, so that no document is ever ahead of what the journal's database keeps); write the
documents; `Ledger.absorbed`. Killed anywhere, the next feeder starts at the checkpoint again, and what was written
already is left alone (see `projections.fold`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from actionbus.core import Bus, Record
from actionbus.projections.ahead import AheadBatch, ReadAhead
from actionbus.projections.belonging import why_not, why_not_whole
from actionbus.projections.claim import Claim
from actionbus.projections.collecting import no_garbage_collection
from actionbus.projections.counters import COUNTERS
from actionbus.projections.entries import Room
from actionbus.projections.errors import DocumentsRefused, IndexMissing, NeedsRebuild, ProjectionStopped, StoreError
from actionbus.projections.fold import Fold, FoldResult, stopped_by
from actionbus.projections.great_records import GreatRecords
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.mending import Mender
from actionbus.projections.projection import Projection
from actionbus.projections.shared_reading import Batch, SharedReading, WantedRecords
from actionbus.projections.stops import DECISION, left_out, with_decisions
from actionbus.projections.store import Store
from actionbus.projections.writing import UNCOUNTED, SliceWriter, as_json

BATCH = 5_000
"""Records in a batch, so that the round trips to database and store weigh little; their documents are in memory."""
ROOM = Room(documents=10_000, bytes=64_000_000)
"""What there is room for of those documents."""
_SMOOTHING = 0.2
"""How much the last step counts in the rate that the status tells: an exponential moving average of about five."""
_LOOK_S = 2.0
"""Seconds between two looks whether the store has lost something."""


class StepResult(NamedTuple):
    """What one step did."""

    records: int
    position: int
    more: bool
    """Whether there was more to read than one batch takes."""


class Feeder:
    """Feeds one slice of one index, under a claim. What it reads it shares with those that have the same `reading`."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        ledger: Ledger,
        projection: type[Projection],
        row: Checkpoint,
        claim: Claim,
        batch: int = BATCH,
        reading: SharedReading | None = None,
    ) -> None:
        self._bus, self._store, self._ledger, self._projection = bus, store, ledger, projection
        self._batch = batch
        self._writer = SliceWriter(store, ledger, row, claim.holder)
        self._fold = Fold(projection, row.slice, row.slices)
        self._great = GreatRecords(projection.name, self._fold, self._writer, lambda: ROOM)
        self._size = batch
        """Of the next batch: halved while the store refuses one of its documents, until that is one record's."""
        self._rate: float | None = row.rate
        self._journal = (reading or SharedReading(bus.journal)).follower(
            WantedRecords.outcomes_of(with_decisions(projection.wanted_actions()))
        )
        self.left_out: set[int] = set()
        """Records that this version goes on without, as operators decided."""
        self._to_take_out: set[int] = set()
        self._take_out_at = 0
        """Those of them that may have been absorbed, and the position from which on all of that has arrived."""
        self._mender = Mender(
            bus.journal, projection, self._fold, self._writer.load, self._writer.mend, self._writer.sign_of_life
        )
        self._lineage: str | None = None
        """Of the index when it was checked last."""
        self._looked = 0.0
        self._is_to_be_counted = False
        self._ahead = ReadAhead(row.index_name, self._journal, self._fold, self._writer, ROOM)
        self._busy_since: float | None = None
        """When the batch before was written, if this one was read ahead then."""

    def check(self) -> None:
        """See that the index belongs to what the journal says, and what is to be left out. Raises NeedsRebuild."""
        self._ahead.forget()
        self._reload()
        with self._telling():
            self._lineage, self._looked = self._lineage_now(), time.monotonic()
            self._see(why_not(self._bus, self._store, self._ledger, self.row))
            # That has seen that it holds nothing beyond what a row says, of which there is one alone.
            self._writer.begin_empty(is_empty=self.row.slices == 1 and self.row.writing_to == self.row.position == 0)
            self._is_to_be_counted = True
            self._count()
            # What was absorbed was settled; what we believe beyond that may be of a database that is no more.
            self._bus.journal.look_again(self.row.position)
            self._journal.forget()
        self.left_out, self._to_take_out = set(self.row.without), set()
        self._hear_decisions()

    def _see(self, why: str | None) -> None:
        """Raises NeedsRebuild if there is a reason why the index is not to be fed."""
        if why:
            name, index = self._projection.name, self.row.index_name
            served = self._store.aliased(name) if self.row.built else None
            mend = (
                f"run `actionbus projections rebuild {name}`"
                if served in (None, index)
                else f"readers see {served}, and `actionbus projections prune` removes this one"
            )
            raise NeedsRebuild(f"{why}; {mend}", {"rebuild": True})

    def _count(self) -> None:
        """Compare what the index holds with what was counted, once no batch is half written."""
        if not self._is_to_be_counted or not self.row.is_at_rest:
            return
        self._is_to_be_counted = False
        self._see(why_not_whole(self._store, self._ledger, self.row))
        if self.row.slices == 1 and self.row.documents is None:
            found = self._store.totals(self.row.index_name)
            self._writer.note(documents=found.documents, versions=found.versions)

    def _look(self) -> None:
        """Check again if the store may have lost something, as by a restart that no request of ours has met."""
        if time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            if self._lineage_now() != self._lineage:
                self.check()

    def _lineage_now(self) -> str | None:
        try:
            return self._store.lineage(self.row.index_name)
        except IndexMissing:
            return None  # a check says so

    def _reload(self) -> None:
        found = self._ledger.checkpoint(self.row.index_name, self.row.slice)
        if found is None:
            raise NeedsRebuild(f"the index {self.row.index_name} is no longer in the ledger", {"rebuild": True})
        self._writer.begin(found)
        if found.refusals:
            self._size = 1  # such a record is the next

    def step(self) -> StepResult:
        """Absorb one batch.

        Raises ProjectionStopped, which the status then shows, IndexBusy, or what store and database raise.
        """
        with self._telling(), no_garbage_collection():
            return self._step()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Whatever feeds: what stops it is in the checkpoint, for the status to show and `skip_record` to look up."""
        try:
            yield
        except ProjectionStopped as error:
            self.report("stopped", error.detail)
            raise
        except StoreError:
            self._lineage, self._looked = "", 0.0  # when it is back, it is checked first
            raise

    def _step(self) -> StepResult:
        started = time.monotonic()
        self._look()
        self._take_out_the_decided()
        row = self.row
        ahead = self._next_batch()
        batch = ahead.batch
        end, records = batch.end, batch.records
        if end < row.position:
            self.check()  # the journal ends before our checkpoint
        if end <= row.position:
            return StepResult(0, row.position, more=False)
        cut_off = row.position < row.writing_to <= end
        if cut_off:
            # Do just the batch that was cut off again, so that its count of documents comes out right.
            end, records = row.writing_to, [record for record in records if record.position <= row.writing_to]
        if any(record.action == DECISION for record in records):
            self._hear_decisions()
        folded = None if cut_off else self._still_true(ahead)
        folded = folded or self._folded(records, is_whole=cut_off)
        while folded.poison and self.is_to_be_left_out(folded.poison.position):
            folded = self._folded(records, is_whole=cut_off)
        if beyond := folded.beyond or (folded.poison and folded.poison.position):
            records = [record for record in records if record.position < beyond]
            end = max(beyond - 1, row.position)
            self._size = max(1, len(records))
        elif batch.is_full and not cut_off:
            goes_on = self._store.is_apart and row.writing_to <= end and not row.refusals
            self._ahead.begin(end, self._size, self.left_out, folded.writes if goes_on else None)
        if end > row.position:
            if not self._write(folded, records, end, self._seconds_since(started)):
                return StepResult(0, row.position, more=True)
            self._size = min(2 * self._size, self._batch)
            COUNTERS.add(self._projection.name, records=len(records))
            self._take_out_the_decided()
            self._count()
            if not batch.is_full:
                self._writer.begin_empty(is_empty=False)
        if folded.poison:
            raise stopped_by(folded.poison, self._projection.name)
        return StepResult(len(records), end, batch.is_full or cut_off or folded.beyond is not None)

    def _next_batch(self) -> AheadBatch:
        """What was read ahead while the last batch was written, if it begins where we are; else a batch read now."""
        ahead = self._ahead.take(self.row.position)
        ahead = ahead or AheadBatch(self._journal.read(self.row.position, self._size))
        # A batch that was cut off is to be done whole again, for its count of documents; but reads end where they like.
        while self.row.documents is not None and ahead.batch.is_full and ahead.batch.end < self.row.writing_to:
            batch, more = ahead.batch, self._journal.read(ahead.batch.end, self._size)
            ahead = AheadBatch(Batch(batch.start, more.end, [*batch.records, *more.records], more.is_full))
        return ahead

    def _still_true(self, ahead: AheadBatch) -> FoldResult | None:
        """What was folded ahead, if the index and what is to be left out are what they were expected to be."""
        is_so = ahead.left_out == self.left_out and ahead.surprises == self._writer.surprises
        return ahead.folded if is_so else None

    def _folded(self, records: Sequence[Record], *, is_whole: bool) -> FoldResult:
        """What records come to, as many as there is room for.

        What was cut off is to be done whole: it had room before, or is one great record.
        """
        room = None if is_whole and not self._fold.only(records, self.left_out) else ROOM
        folded = self._fold.absorb(records, self._writer.load, self.left_out, room)
        return self._great.surveyed(folded._replace(beyond=None) if is_whole else folded)

    def _seconds_since(self, started: float) -> float:
        """Since a step began, or since the batch before was at this place: reading and folding ahead take none."""
        now, busy_since = time.monotonic(), self._busy_since
        self._busy_since = now if self._ahead.is_begun else None
        return now - (started if busy_since is None else busy_since)

    def is_to_be_left_out(self, position: int) -> bool:
        """Whether an operator decided so by now. The decision is itself a record, later than the one it is about."""
        self._hear_decisions()
        return position in self.left_out

    def _write(self, folded: FoldResult, records: Sequence[Record], end: int, seconds: float) -> bool:
        """Write a batch; False if less of it must be folded again, or without a record that is now left out."""
        self._rate = self._smoothed(end - self.row.position, seconds)
        try:
            parts = self._great.writes(folded)
            self._writer.write(folded, parts, end, self._rate, lambda: self._put_in_what_was_refused(end))
        except DocumentsRefused as error:
            if len(records) > 1:
                self._size = max(1, len(records) // 2)
                return False
            self._size = 1
            if self._hear_decisions() and records[0].position in self.left_out:
                return False
            self._take_out(records[0].position)
            key, position, reason = error.refused[0]
            told = {"position": position, "document": key, "error": reason, "refused": True}
            raise ProjectionStopped(str(error), told) from error
        return True

    def _take_out(self, position: int) -> None:
        """See that nothing of a record is in the index, since the store refused a part of it.

        First it is noted that it is so, so that whoever tries the record again puts all of it in, killed or not.
        """
        self._writer.note(refused=as_json(self.row.refusals | {position}), **UNCOUNTED)
        self._mender.mend(position, self.left_out | {position}, is_passed=False, refuse=False)

    def _put_in_what_was_refused(self, end: int) -> bool:
        """Records that the store takes now go into documents that were mended to be without them; whether any did."""
        found = [each for each in self.row.refusals if each <= end and each not in self.left_out]
        mended = [self._mender.mend(each, self.left_out, is_passed=False, refuse=False) for each in found]
        return any(mended)

    def _hear_decisions(self) -> bool:
        """Whether operators decided by now to leave out more records. A decision is itself a record, later than those.

        What was, or may have been, absorbed of them is taken out once the batch that was begun is through.
        """
        settled = self._bus.journal.settled()
        decided = left_out(self._bus.journal, self._projection.name, self.row.version, self.row.decided_to)
        new = decided - self.left_out - self.row.without
        self.left_out |= decided | self.row.without
        self._to_take_out |= {each for each in decided - self.row.without if each <= self.row.writing_to}
        if self._to_take_out:
            self._take_out_at = max(self._take_out_at, self.row.writing_to)
            self._writer.note(**UNCOUNTED)  # what the batch that was begun comes to was counted with those records
        if not self._to_take_out and (decided or settled > self.row.decided_to):
            self._writer.note(decided_to=max(settled, self.row.decided_to), left_out=as_json(self.left_out))
        return bool(new)

    def _take_out_the_decided(self) -> None:
        """Fold the documents of records that were absorbed before it was decided to leave them out, without those."""
        if not self._to_take_out or self.row.position < self._take_out_at:
            return
        for position in sorted(self._to_take_out):
            self._mender.mend(position, self.left_out, is_passed=True, refuse=True)
        self._writer.note(left_out=as_json(self.row.without | self._to_take_out), **UNCOUNTED)
        self._to_take_out.clear()
        self._hear_decisions()

    @property
    def row(self) -> Checkpoint:
        """The checkpoint as we left it."""
        return self._writer.row

    def report(self, state: str, detail: Mapping[str, object] | None = None) -> None:
        """Show a state. Raises IndexBusy if the row is not ours any more, or not where we left it."""
        self._writer.report(state, detail)

    def sign_of_life(self) -> None:
        """Only that: an operator may just have said `retry`, which showing a state would undo. Raises IndexBusy."""
        self._writer.sign_of_life()

    def _smoothed(self, positions: int, seconds: float) -> float:
        rate = positions / seconds if seconds > 0 else 0.0
        return rate if self._rate is None else self._rate + _SMOOTHING * (rate - self._rate)
