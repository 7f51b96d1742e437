"""ReadAhead reads the batch behind the one that is being written, and folds it already. The feeder calls it.

While documents are on their way to a store that is apart, somebody else works and this process waits; the next batch
is read and folded in that time, over the documents as they will be once all that is being written has arrived. Why this
changes nothing but the time it takes:

1. Nothing of it is written, nor said in the ledger, before the batch in front is absorbed and `Ledger.intend` has
   found, as for any batch, that the row is held by us and stands where that batch ends.
2. It was folded over what will be stored, if every write of the batch in front was taken, and nothing else was written
   to the index since. Else it is thrown away and folded again as ever: when a write met another one (`surprises` counts
   those), when a document was mended, when the batch was refused or cut off, when the index was looked at anew, or
   when other records are to be left out than it was folded without.
3. Others cannot have written meanwhile: they would hold the row, and then 1 finds out. That was so before, between the
   loading of documents and their writing; it is only a longer time.
4. What failed is done again by the feeder itself, which tells of reducers' errors and of documents of strangers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final, NamedTuple

from actionbus.projections.entries import Room
from actionbus.projections.fold import Fold, FoldResult
from actionbus.projections.shared_reading import Batch, Follower
from actionbus.projections.store import StoredDocument, Write
from actionbus.projections.writing import SliceWriter

_MOST_BYTES: Final = 16_000_000
"""Of documents that are being written: with more of them, those of the next batch have to wait for their memory."""


class AheadBatch(NamedTuple):
    """A batch, and what it comes to if nothing happens that is not expected."""

    batch: Batch
    folded: FoldResult | None = None
    left_out: frozenset[int] = frozenset()
    surprises: int = 0


class ReadAhead:
    """Of one slice of one index."""

    def __init__(self, name: str, journal: Follower, fold: Fold, writer: SliceWriter, room: Room) -> None:
        self._journal, self._fold, self._writer, self._room = journal, fold, writer, room
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{name} reading")
        self._coming: Future[AheadBatch] | None = None

    @property
    def is_begun(self) -> bool:
        """Whether there is something to take."""
        return self._coming is not None

    def begin(self, start: int, size: int, left_out: Collection[int], writes: Sequence[Write] | None) -> None:
        """Read up to `size` records beyond `start`, and fold them over `writes`, unless that is None."""
        surprises = self._writer.surprises
        if writes is not None and sum(len(write.text or b"") for write in writes) > _MOST_BYTES:
            writes = None
        self._coming = self._thread.submit(self._ahead, start, size, frozenset(left_out), writes, surprises)

    def take(self, start: int) -> AheadBatch | None:
        """What was begun, once, if it is what comes after `start`. Raises what reading raised."""
        coming, self._coming = self._coming, None
        ahead = coming.result() if coming else None
        return ahead if ahead and ahead.batch.start == start else None

    def forget(self) -> None:
        """What was begun is not wanted any more; when this returns nothing of it is at work."""
        coming, self._coming = self._coming, None
        if coming:
            wait([coming])

    def _ahead(
        self, start: int, size: int, left_out: frozenset[int], writes: Sequence[Write] | None, surprises: int
    ) -> AheadBatch:
        batch = self._journal.read(start, size)
        if writes is None or batch.end <= start:
            return AheadBatch(batch)
        coming = {write.key: write for write in writes}

        def load(keys: Collection[str]) -> Mapping[str, StoredDocument]:
            found = self._writer.stored([key for key in keys if key not in coming])
            for key in keys:
                if (write := coming.get(key)) is not None:
                    found[key] = StoredDocument(write.version, write.document())
            return found

        try:
            folded = self._fold.absorb(batch.records, load, left_out, self._room)
        except Exception:  # told when the feeder does it
            return AheadBatch(batch)
        return AheadBatch(batch, None if folded.poison or folded.great else folded, left_out, surprises)
