"""SharedReading: the journal is read once for all who follow it in one process. Used by feeders and subscriptions.

Each follower asks for what comes after its own position, in its own time. What was read for one is kept for a while, as
rows, and given to those who come to the same place after it: they make records of their own of it, so that nothing one
of them does to a record reaches another. A follower with nobody near reads on its own, and only what it wants itself.

Nobody waits for anybody but for a read of the database that is under way at his very position. What is kept is bounded
by its bytes (`ROOM`): what was not asked for longest goes first, and whoever comes to it later reads it again.

What was kept of a database that was replaced by an older one meanwhile harms nobody: it is forgotten at the first error
and at every check, and a batch is written only by whoever holds the row of his checkpoint where he left it, in the
database that there is now (`Ledger.intend`).
"""

from __future__ import annotations

import threading
import time
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from operator import itemgetter
from typing import Any, Final, NamedTuple

from actionbus.core import HistoryArchived, Journal, JournalFilter, Record
from actionbus.core.storage.stretches import Stretch
from actionbus.core.storage.table import COLUMNS
from actionbus.core.values.record import Kind
from actionbus.projections.errors import ProjectionStopped

ROOM: Final = 48_000_000
"""Bytes of rows that are kept for others."""
BATCH_ROOM: Final = 8_000_000
"""Bytes of rows in one read, and in one batch, or a few more."""
_ROWS: Final = 5_000
"""Rows in one read for several."""
_NEAR: Final = 10 * _ROWS
"""Positions behind a follower at which another one will come to the same place while what is there is still kept."""
_PATIENCE_S: Final = 0.5
"""Seconds that a hole in the journal is waited for, before the status says who holds it."""

_RECENT_S: Final = 1.0
"""Seconds in which no database is replaced by an older one and followed again: all who start together share."""

_position = itemgetter(0)
_KIND, _ACTION = COLUMNS.index("kind"), COLUMNS.index("action")


class WantedRecords(NamedTuple):
    """Which records somebody wants, as far as all read together are told apart: None means all."""

    actions: frozenset[str] | None = None
    kinds: frozenset[Kind] | None = frozenset({"outcome"})

    @classmethod
    def outcomes_of(cls, actions: Collection[str] | None) -> WantedRecords:
        """The outcomes of some actions."""
        return cls(None if actions is None else frozenset(actions))

    def filter(self) -> JournalFilter:
        """The same for the journal."""
        return JournalFilter(action=self.actions, kind=self.kinds)

    def __or__(self, other: WantedRecords) -> WantedRecords:
        """What one of the two wants, or more."""
        return WantedRecords(
            None if self.actions is None or other.actions is None else self.actions | other.actions,
            None if self.kinds is None or other.kinds is None else self.kinds | other.kinds,
        )

    def among(self, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        """Those of some records that are wanted."""
        actions, kinds = self.actions, self.kinds
        if actions is None and kinds is None:
            return rows
        return [
            row
            for row in rows
            if (actions is None or row[_ACTION] in actions) and (kinds is None or row[_KIND] in kinds)
        ]


class Batch(NamedTuple):
    """Records beyond `start` that could matter; there are no others up to `end`."""

    start: int
    end: int
    records: list[Record]
    is_full: bool
    """Whether more was settled beyond `end`."""


class Follower:
    """One who follows the journal, wherever he is."""

    def __init__(self, reading: SharedReading, wanted: WantedRecords) -> None:
        self._reading, self.wanted = reading, wanted
        self.position = -1
        """Where he asked last."""

    def read(self, start: int, size: int) -> Batch:
        """The next records that are wanted, at most `size`, and the position up to which there are no others.

        Where the journal ends, or at a hole, `end` is at most `start`.
        """
        return self._reading.read(self, start, size)

    def forget(self) -> None:
        """What was kept may be of a database that is no more."""
        self._reading.forget(but=_RECENT_S)


class SharedReading:
    """Of one journal. `room` is how many bytes of rows are kept for others, about."""

    def __init__(self, journal: Journal, room: int = ROOM) -> None:
        self._journal, self._room = journal, room
        self._wanted = WantedRecords(frozenset(), frozenset())
        """What any follower wants: what is read where it is read for several."""
        self._guard = threading.Lock()
        self._followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        self._kept: list[Stretch] = []
        """By their starts."""
        self._used: dict[int, int] = {}
        """When each, by its start, was used last, counted in uses."""
        self._read_at: dict[int, float] = {}
        self._uses = 0
        self._size = 0
        self._coming: dict[int, Future[Stretch]] = {}
        """What is being read for several, by its start."""

    def follower(self, wanted: WantedRecords) -> Follower:
        """Somebody who follows from now on, as long as he is referred to."""
        made = Follower(self, wanted)
        with self._guard:
            self._followers.add(made)
            if self._wanted | wanted != self._wanted:
                self._wanted |= wanted
                self._forget()  # it may lack what he wants
        return made

    def forget(self, but: float = 0.0) -> None:
        """Keep nothing of what was read so far, but in the last seconds."""
        since = time.monotonic() - but
        with self._guard:
            if any(moment < since for moment in self._read_at.values()) or not but:
                self._forget()

    def _forget(self) -> None:
        self._kept, self._used, self._read_at, self._coming, self._size = [], {}, {}, {}, 0

    def read(self, follower: Follower, start: int, size: int) -> Batch:
        """See `Follower.read`."""
        follower.position = start
        batch = self._taken(follower.wanted, start, size)
        if batch is None:
            stretch = self._together(start) if self._has_company(follower) else self._alone(follower, size)
            batch = self._taken(follower.wanted, start, size) or self._cut([stretch], follower.wanted, start, size)
        return batch

    def _has_company(self, follower: Follower) -> bool:
        """Whether somebody else is at this place, or not far behind."""
        with self._guard:
            others = [each.position for each in self._followers if each is not follower]
        return any(follower.position - _NEAR <= each <= follower.position for each in others if each >= 0)

    def _alone(self, follower: Follower, size: int) -> Stretch:
        return self._stretch(follower.position, follower.wanted, size)

    def _together(self, start: int) -> Stretch:
        """Read for several, or wait until whoever does so here has."""
        with self._guard:
            if found := self._found(start, 1):  # since a moment ago
                return found[0]
            coming, wanted = self._coming.get(start), self._wanted
            mine: Future[Stretch] = Future()
            if coming is None:
                self._coming[start] = mine
        if coming is not None:
            return coming.result()
        try:
            stretch = self._stretch(start, wanted, _ROWS)
        except BaseException as error:
            self.forget()
            mine.set_exception(error)
            raise
        with self._guard:
            if self._coming.get(start) is mine:  # nobody has said meanwhile that all is to be forgotten
                del self._coming[start]
                self._keep(stretch)
        mine.set_result(stretch)
        return stretch

    def _stretch(self, start: int, wanted: WantedRecords, rows: int) -> Stretch:
        settled = self._journal.settled()
        if settled <= start:
            # At a hole, which may be there for good: only outlasting the writers of this moment can tell.
            settled = self._journal.settled(wait=True, patience=_PATIENCE_S)
        if settled <= start:
            return Stretch(start, settled, [], 0, settled)
        stretch = self._journal.stretch(start, settled, wanted.filter(), limit=rows, room=BATCH_ROOM)
        # Afterwards: what is read while it goes into an archive may lack some, and the archive is noted before that.
        try:
            self._journal.begins.require(start)
        except HistoryArchived as error:
            raise ProjectionStopped(
                f"records beyond position {start} are to be read, and {error}; then try again (`retry`)"
            ) from None
        return stretch

    def _keep(self, stretch: Stretch) -> None:
        """Keep it, and let go of what was not used for longest. Under the guard."""
        if stretch.end <= stretch.start or stretch.start in self._used:
            return
        self._kept.insert(bisect_left(self._kept, stretch.start, key=_position), stretch)
        self._size += stretch.size
        self._read_at[stretch.start] = time.monotonic()
        self._use(stretch)
        while self._size > self._room and len(self._kept) > 1:
            place = min(range(len(self._kept)), key=lambda place: self._used[self._kept[place].start])
            gone = self._kept.pop(place)
            del self._used[gone.start], self._read_at[gone.start]
            self._size -= gone.size

    def _use(self, stretch: Stretch) -> None:
        self._uses += 1
        self._used[stretch.start] = self._uses

    def _taken(self, wanted: WantedRecords, start: int, size: int) -> Batch | None:
        """What is kept of what comes after a position; None if that is nothing."""
        with self._guard:
            found = self._found(start, size)
        return self._cut(found, wanted, start, size) if found else None

    def _found(self, start: int, size: int) -> list[Stretch]:
        """Kept stretches that lead on from a position without a gap, until they have enough. Under the guard.

        They may overlap: who begins at another place than those before him reads some of the same.
        """
        found: list[Stretch] = []
        count = room = 0
        while count < size and room < BATCH_ROOM:
            place = bisect_right(self._kept, start, key=_position) - 1
            if place < 0 or self._kept[place].end <= start:
                break
            stretch = self._kept[place]
            self._use(stretch)
            found.append(stretch)
            count, room, start = count + len(stretch.rows), room + stretch.size, stretch.end
        return found

    def _cut(self, stretches: Sequence[Stretch], wanted: WantedRecords, start: int, size: int) -> Batch:
        """Of stretches that follow on each other, or overlap, at most `size` records beyond `start`, each once."""
        rows: list[Sequence[Any]] = []
        end = start
        for stretch in stretches:
            beyond = stretch.rows[bisect_right(stretch.rows, end, key=_position) :]
            found = wanted.among(beyond)
            if len(rows) + len(found) > size:
                rows += found[: size - len(rows)]
                end = rows[-1][0]
                break
            rows += found
            end = stretch.end
        upto = max(each.upto for each in stretches)
        return Batch(start, end, self._journal.records_in(rows), is_full=end < upto)
