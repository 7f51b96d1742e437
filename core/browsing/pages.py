"""Pages of the journal, newest first, by keyset: what a list, a page of HTTP or `actionbus log` shows.

A page costs the same wherever it lies and whatever is asked for: at most so many records are looked at for it. Where
too few of them are wanted the page is short, says how far was looked, and the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from actionbus.core.journal import Journal
from actionbus.core.storage.by_value import ByValue, indexed
from actionbus.core.values.journal_filter import EVERYTHING, JournalFilter
from actionbus.core.values.record import Record

LOOKED_AT: Final = 20_000
"""Records that are looked at for one page."""
SEARCHED: Final = 5_000
"""Records of which the text is searched for one page."""
TOUCHED: Final = 8_000
"""Records that touched what was asked for and are looked at for one page: whose an image is, is found one by one."""
_AT_ONCE: Final = 500
_FIRST_STRETCH: Final = 1_000
_WIDER: Final = 8
"""By so much the stretch of positions grows in which changes of a table or row are looked for."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, newest first, and where to go on."""

    records: list[Record]
    low: int
    high: int
    """All wanted records beyond `low` up to `high` are on this page."""
    has_older: bool
    """Whether there may be wanted ones at or before `low`."""
    has_newer: bool
    """Whether there may be wanted ones beyond `high`, which had been settled by then."""
    settled: int
    """The journal's settled end when it was asked."""
    begins: int
    """Up to this position records are archived; 0 if none are."""


def page(
    journal: Journal,
    where: JournalFilter = EVERYTHING,
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int = 50,
    brief: int | None = None,
    opened: bool = True,
) -> Page:
    """The newest records that are wanted; with `before`, at or before that position; with `after`, next beyond it.

    At most `limit`; `brief` and `opened` are as for `Journal.window`.
    """
    settled, begins = journal.settled(), journal.begins.position()
    first, last = journal.between(where, 0, settled)
    top = settled if last is None else min(settled, last)
    low, high = min(first, top), top
    forward = after is not None
    if after is not None:
        low = min(max(low, after), high)
    if before is not None:
        high = max(min(high, before), low)
    look = Look(journal, where, limit, forward, brief, opened)
    records, reached = look.between(low, high)
    if forward:
        end = high if reached is None else reached
        return Page(records[::-1], low, end, low > first, end < top, settled, begins)
    end = low if reached is None else reached
    return Page(records, end, high, end > first and reached is not None, high < top, settled, begins)


@dataclass(frozen=True, slots=True)
class Look:
    """How one page is looked for."""

    journal: Journal
    where: JournalFilter
    limit: int
    forward: bool
    brief: int | None
    opened: bool

    @property
    def most(self) -> int:
        """How many records are looked at."""
        if self.where.text is not None:
            return SEARCHED
        return LOOKED_AT if self.where.touching is None else TOUCHED

    def between(self, low: int, high: int) -> tuple[list[Record], int | None]:
        """The records next to one end of a range; the place beyond which was not looked, None for none."""
        wanted = indexed(self.where)
        if self.where.touching is not None:
            return self._among(self._touched(low, high), replace(self.where, touching=None), wanted)
        if high - low > self.most and wanted is not None:
            return self._among(self._with_value(wanted, low, high), self.where)
        found = self.journal.window(
            low,
            high,
            self.where,
            limit=self.limit,
            most=self.most,
            newest_first=not self.forward,
            brief=self.brief,
            opened=self.opened,
        )
        return found.records, None if found.is_all else self._beyond(found.reached)

    def _beyond(self, reached: int) -> int:
        return reached - (not self.forward)

    def _among(
        self, stretches: Iterator[list[int]], where: JournalFilter, wanted: ByValue | None = None
    ) -> tuple[list[Record], int | None]:
        """Those of the positions of each stretch that are wanted by all else, until there are enough, or too many.

        Of many positions only those that have the value `wanted` by its index are read.
        """
        found: list[Record] = []
        looked_at = 0
        for piece in _in_pieces(stretches, _AT_ONCE if wanted is None else _AT_ONCE * _WIDER):
            for chosen in _in_pieces([self._with_value_among(piece, wanted)], _AT_ONCE):
                some = self.journal.chosen(chosen, where, brief=self.brief, opened=self.opened)
                found += some if self.forward else some[::-1]
                if len(found) >= self.limit:
                    return found[: self.limit], self._beyond(found[self.limit - 1].position)
            looked_at += len(piece)
            if looked_at >= self.most:
                return found, self._beyond(piece[-1])
        return found, None

    def _with_value_among(self, positions: list[int], wanted: ByValue | None) -> list[int]:
        """Those of some positions that have a value; all of them, if that does not leave out enough."""
        if wanted is None or len(positions) <= _AT_ONCE:
            return positions
        low, high = min(positions[0], positions[-1]) - 1, max(positions[0], positions[-1])
        having = self.journal.positions_with(wanted, low, high, len(positions), newest_first=True)
        if having.reached is not None:
            return positions
        found = set(having.found)
        return [each for each in positions if each in found]

    def _with_value(self, wanted: ByValue, low: int, high: int) -> Iterator[list[int]]:
        """Positions of records with a value, by its index."""
        size = self.limit
        while low < high:
            found = self.journal.positions_with(wanted, low, high, size, newest_first=not self.forward)
            yield found.found
            if found.reached is None:
                return
            low, high = (found.reached, high) if self.forward else (low, found.reached - 1)
            size = min(size * _WIDER, _AT_ONCE * _WIDER)

    def _touched(self, low: int, high: int) -> Iterator[list[int]]:
        """Positions at which a table or row was changed.

        The changes nearest to where it begins are asked for first, in stretches that grow: what is changed all the time
        is found in the first, and of what is changed seldom there are few in the widest.
        """
        assert self.where.touching is not None
        table, *key = self.where.touching
        stretch = _FIRST_STRETCH
        while low < high:
            edge = min(high, low + stretch) if self.forward else max(low, high - stretch)
            ends = (low, edge) if self.forward else (edge, high)
            positions = self.journal.teller.needed().positions_of(table, key, *ends)
            yield positions if self.forward else positions[::-1]
            low, high = (edge, high) if self.forward else (low, edge)
            stretch *= _WIDER


def _in_pieces(lists: Iterable[list[int]], size: int) -> Iterator[list[int]]:
    """Lists, each cut into pieces of at most so many."""
    for each in lists:
        for start in range(0, len(each), size):
            yield each[start : start + size]


def newest(journal: Journal, where: JournalFilter = EVERYTHING, *, most: int) -> list[Record]:
    """The last settled records that are wanted, oldest first, at most so many, however far back they lie.

    As many pages are turned as it takes, so that what is wanted seldom takes as long as the journal is.
    """
    found: list[Record] = []
    before: int | None = None
    while len(found) < most:
        turned = page(journal, where, before=before, limit=most - len(found))
        found += turned.records
        before = turned.low
        if not turned.has_older:
            break
    return found[::-1]
