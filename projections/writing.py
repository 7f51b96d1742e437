"""Writing of folded batches to one slice of an index, between the two durable steps in the ledger. The feeder calls it.

Why a conflict that nobody explains is an alarm. A holder of a slice writes nothing before it has committed, under its
claim, how far that goes (`Ledger.intend`). So all that earlier holders may still have on its way to the store is at or
below the `writing_to` that this one found when it began: `_in_doubt_to`. The same holds for a request of our own that
was not answered. A write above that which meets a version not less than its own meets one of somebody who has never
asked this ledger: another database, such as a copy of this one. Nor may a stored document be ahead of `writing_to`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from actionbus.core.values.payload import dumps
from actionbus.projections.counters import COUNTERS
from actionbus.projections.errors import DocumentsRefused, ForeignWrites, IndexBusy
from actionbus.projections.fold import FoldResult
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.store import Store, StoredDocument, Write
from actionbus.projections.unwritten import UnwrittenKeys

UNCOUNTED: Final[dict[str, Any]] = dict.fromkeys(("documents", "documents_then", "versions", "versions_then"))
"""Of a checkpoint: what the index holds in all is not known."""


class SliceWriter:
    """Writes to one slice of one index under a claim; `row` is its checkpoint as we left it."""

    def __init__(self, store: Store, ledger: Ledger, row: Checkpoint, holder: str) -> None:
        self.row = row
        self._store, self._ledger, self._holder = store, ledger, holder
        self._in_doubt_to = row.writing_to
        self.surprises = 0
        """How often a document was not taken since it was there already, or was written besides a batch."""
        self._unwritten: UnwrittenKeys | None = None

    def begin(self, row: Checkpoint) -> None:
        """Go on from a checkpoint as it was read under our claim."""
        self.row, self._in_doubt_to = row, max(row.writing_to, self._in_doubt_to)

    def begin_empty(self, *, is_empty: bool) -> None:
        """Whether the index was seen to be empty under our claim, and nobody has ever begun to write to it.

        Then what we have not sent is not there, and is not asked for, until this is said again.
        """
        self._unwritten = UnwrittenKeys() if is_empty else None

    def _perhaps(self, keys: Collection[str]) -> Collection[str]:
        return keys if self._unwritten is None else self._unwritten.left_of(keys)

    def load(self, keys: Collection[str]) -> Mapping[str, StoredDocument]:
        """Documents as they are stored. Raises ForeignWrites for one that is ahead of all that was ever written."""
        keys = self._perhaps(keys)
        found = self._store.get_many(self.row.index_name, keys) if keys else {}
        for key, stored in found.items():
            if stored.version > self.row.writing_to:
                raise self._alarm(key, stored.version, f"beyond {self.row.writing_to}")
        return found

    def stored(self, keys: Collection[str]) -> dict[str, StoredDocument]:
        """The same while a batch is being written. Raises ValueError for one that is ahead."""
        keys = self._perhaps(keys)
        found = self._store.get_many(self.row.index_name, keys) if keys else {}
        if any(stored.version > self.row.writing_to for stored in found.values()):
            raise ValueError("somebody else writes to this index")
        return found

    def write(
        self,
        folded: FoldResult,
        parts: Iterable[Sequence[Write]],
        end: int,
        rate: float | None,
        mend: Callable[[], bool],
    ) -> None:
        """Write a batch, which comes in parts; `mend` is called when all is written, before the checkpoint moves to
        `end`, and says whether it changed documents besides.

        Raises DocumentsRefused once the other documents are written, IndexBusy if the row is not ours any more.
        """
        row = self.row
        documents, versions = _plus(row.documents, folded.appeared), _plus(row.versions, folded.versions)
        if not row.is_at_rest and end == row.writing_to:
            documents, versions = row.documents_then, row.versions_then
        highest, count = row.highest, 0
        if folded.writes or folded.great:
            row = row._replace(writing_to=max(end, row.writing_to), documents_then=documents, versions_then=versions)
            if not self._ledger.intend(row, self._holder):
                raise self.lost()
            self.row = row
            for writes in parts:
                self.send(writes)
                highest, count = max(highest, *(write.version for write in writes), 0), count + len(writes)
        if mend():
            documents = versions = None
        reached = row._replace(
            position=end,
            writing_to=max(end, row.writing_to),
            documents=documents,
            versions=versions,
            rate=rate,
            highest=highest,
            refused=as_json(each for each in row.refusals if each > end),
        )
        if not self._ledger.absorbed(row, self._holder, reached):
            raise self.lost()
        self.row = reached
        COUNTERS.add(row.projection, documents=count)

    def mend(self, writes: Sequence[Write]) -> None:
        """Write documents that are of no batch."""
        self.surprises += 1
        self.send(writes)

    def send(self, writes: Sequence[Write]) -> None:
        """Write documents, and see that what was there already is no stranger's."""
        began = time.monotonic()
        if self._unwritten is not None:
            self._unwritten.add(write.key for write in writes)
        try:
            left_out = self._store.write_many(self.row.index_name, writes)
        except DocumentsRefused as error:
            self.forget_counts()
            COUNTERS.add(self.row.projection, refusals=len(error.refused))
            self._explain(error.left_out)
            raise
        except BaseException:
            self._in_doubt_to = self.row.writing_to  # it may be on its way still
            COUNTERS.add(self.row.projection, retries=1)
            raise
        finally:
            COUNTERS.add(self.row.projection, bulk_seconds=time.monotonic() - began)
        self._explain(left_out)

    def _explain(self, left_out: Sequence[Write]) -> None:
        """Raises ForeignWrites if neither an earlier holder nor an unanswered request of ours can have written them."""
        COUNTERS.add(self.row.projection, conflicts=len(left_out))
        self.surprises += bool(left_out)
        unexplained = [write for write in left_out if write.version > self._in_doubt_to]
        if not unexplained:
            return
        stored = self._store.get_many(self.row.index_name, [write.key for write in unexplained])
        for write in unexplained:
            found = stored.get(write.key)
            # A request that the client sent twice meets what it has written itself.
            if found is None or (found.version, found.document) != (write.version, write.document()):
                raise self._alarm(write.key, found.version if found else 0, f"where record {write.version} was folded")

    def _alarm(self, key: str, version: int, where: str) -> Exception:
        """What to raise for a document that somebody else has written. The index is then fed no more."""
        index, name = self.row.index_name, self.row.projection
        why = (
            f"somebody else writes to {index}: its document {key!r} is at version {version}, {where}, and nothing fed "
            "from this database wrote that. It is so if this database, or the other, is a copy that was made of the "
            "data files: give one of them a prefix (ACTIONBUS_ELASTICSEARCH_PREFIX)"
        )
        if not self._ledger.note(self.row, self._holder, alarm=why):
            return self.lost()  # it was the next holder, who was faster than our request
        return ForeignWrites(f"{why}; then run `actionbus projections rebuild {name}`", {"rebuild": True})

    def forget_counts(self) -> None:
        """What was counted is no longer true."""
        self.row = self.row._replace(**UNCOUNTED)

    def note(self, **values: Any) -> None:
        """Durably note something in the checkpoint, and in `row`. Raises IndexBusy if it is not ours any more."""
        if not self._ledger.note(self.row, self._holder, **values):
            raise self.lost()
        self.row = self.row._replace(**values)

    def report(self, state: str, detail: Mapping[str, object] | None = None) -> None:
        """Show a state. Raises IndexBusy if the row is not ours any more, or not where we left it."""
        if not self._ledger.report(self.row, self._holder, state, detail):
            raise self.lost()

    def sign_of_life(self) -> None:
        """Only that: an operator may just have said `retry`, which showing a state would undo. Raises IndexBusy."""
        if not self._ledger.sign_of_life(self.row, self._holder):
            raise self.lost()

    def lost(self) -> IndexBusy:
        """What to raise when the row is not ours any more."""
        return IndexBusy(f"another projector feeds {self.row.index_name}, or it is frozen for a swap")


def as_json(positions: Iterable[int]) -> str:
    """Positions as the ledger keeps them."""
    return dumps(sorted(positions))


def _plus(count: int | None, more: int) -> int | None:
    return None if count is None else count + more
