"""Which actions overlapped: their outcomes lie before an action's, but its snapshot did not show them.

What such an action saw of them nobody recorded. The replayer tries what it may have seen: the states without all of
them, or without the last ones (`states`); that those left committed when they had to, just before the action wrote what
they had written, since their locks were in the way (`orders`); that all did between two of the action's statements
(`moments`); that each did between those two that the records' times suggest (`times`); and, from what comes nearest to
history, what lies around that (`near`). They committed in the order of their outcomes, so that what is seen of them is
always a beginning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from actionbus.core import Record
from actionbus.replay.history import Entry
from actionbus.replay.nets import Net
from actionbus.replay.words import named_in, words_of

_MOST: Final = 7
"""How many states are tried besides the recorded one, and how many moments."""
_WRITES: Final = re.compile(r"\b(insert|update|delete|merge|lock)\b|\bfor\s+(no\s+key\s+)?(update|share|key)\b", re.I)
NEVER: Final = 2**31
Theirs = Sequence[list[Net]]
"""What each of the others made of rows, in the order of their outcomes."""


class SeenOthers:
    """What an action may have seen of others: the first `begun` when it began; `due` says how many by a statement."""

    def __init__(self, theirs: Theirs, begun: int, due: Callable[[int, str], int] | None = None) -> None:
        self._theirs = theirs
        self._begun = begun
        self._due = due
        self._committed = begun
        self.when = self._at_first()
        """For each of them, before which statement it committed; 0 if before the first, `NEVER` if before none."""
        self.first_before: str | None = None
        """The first statement just before which some of them committed."""

    def _at_first(self) -> list[int]:
        return [0] * self._begun + [NEVER] * (len(self._theirs) - self._begun)

    def taken_back(self) -> list[Net]:
        """What they had not committed when it began."""
        self._committed, self.first_before, self.when = self._begun, None, self._at_first()
        return [net for each in self._theirs[self._begun :] for net in each]

    def commits(self, number: int, statement: str) -> list[Net]:
        """What they commit just before a statement."""
        due = self._due(number, statement) if self._due is not None else 0
        if due <= self._committed:
            return []
        nets = [net for each in self._theirs[self._committed : due] for net in each]
        self.when[self._committed : due] = [number] * (due - self._committed)
        self._committed = due
        self.first_before = self.first_before or statement
        return nets


NOTHING_SEEN: Final = SeenOthers([], 0)


def states(theirs: Theirs) -> Iterator[SeenOthers]:
    """Without all of them, then with ever more."""
    yield from (SeenOthers(theirs, number) for number in _spread(range(len(theirs))))


def orders(theirs: Theirs, recorded: Sequence[Net]) -> Iterator[SeenOthers]:
    """Some had when it began, and each other does as late as it can: when the action writes rows of its, or tables."""
    own = {(net.table, str(net.key)) for net in recorded}
    by_row = [{net.table for net in nets if (net.table, str(net.key)) in own} for nets in theirs]
    by_table = [{net.table for net in nets} for nets in theirs]
    for tables in (by_row, by_table):
        for number in _spread(range(len(theirs))):
            yield SeenOthers(theirs, number, lambda _, statement, tables=tables: _due(statement, tables))  # type: ignore[misc]


def _due(statement: str, tables: Sequence[set[str]]) -> int:
    """How many must have committed before a statement that writes can go on."""
    if not _WRITES.search(statement):
        return 0
    words = words_of([statement])
    in_the_way = [number for number, names in enumerate(tables, start=1) if named_in(names, words)]
    return max(in_the_way, default=0)


def moments(theirs: Theirs, statements: int) -> Iterator[SeenOthers]:
    """All of them commit just before one of its statements but the first."""
    for chosen in _spread(range(2, statements + 1)):
        yield SeenOthers(theirs, 0, lambda number, _, chosen=chosen: len(theirs) * (number >= chosen))  # type: ignore[misc]


def times(theirs: Theirs, statements: int, parts: Sequence[float]) -> Iterator[SeenOthers]:
    """Each commits when that part of the action's time was over, give or take some statements."""
    for shift in (0, -1, 1, -2, 2, -3, 3):
        after = [part * statements + shift for part in parts]
        yield SeenOthers(theirs, 0, lambda number, _, after=after: _passed(after, number))  # type: ignore[misc]


def _passed(after: Sequence[float], number: int) -> int:
    return max((n for n, each in enumerate(after, start=1) if each < number), default=0)


def at(theirs: Theirs, when: Sequence[int]) -> SeenOthers:
    """Each commits before the statement of that number."""
    begun = next((n for n, each in enumerate(when) if each > 0), len(when))
    return SeenOthers(
        theirs, begun, lambda number, _: next((n for n, each in enumerate(when) if each > number), len(when))
    )


def near(when: Sequence[int], statements: int) -> Iterator[list[int]]:
    """The same but for one of them, which commits earlier or later; those behind it no earlier than it."""
    for place, now in enumerate(when):
        low = when[place - 1] if place else 0
        around = [min(now, statements + 1) + step for step in (-1, 1, -2, 2)]
        for chosen in dict.fromkeys([*around, *_spread(range(low, statements + 2))]):
            if low <= chosen <= statements + 1 and chosen != now:
                yield [*when[:place], chosen, *(max(chosen, each) for each in when[place + 1 :])]


def by_transaction(records: Iterable[Record]) -> list[list[Record]]:
    """Those of nested actions with their outer one's: what is committed together is seen together."""
    found: dict[int | None, list[Record]] = {}
    for record in sorted(records, key=lambda each: each.position):
        found.setdefault(record.xid, []).append(record)
    return sorted(found.values(), key=lambda each: each[-1].position)


def parts_of(entry: Entry, others: Iterable[Record]) -> list[float]:
    """When others committed, as parts of the time that an action took."""
    began, ended = entry.started_at, entry.outcome.recorded_at
    whole = max((ended - began).total_seconds(), 1e-6)
    return [(record.recorded_at - began).total_seconds() / whole for record in others]


def _spread(numbers: Sequence[int]) -> list[int]:
    """At most `_MOST` of them, the first and the last among them."""
    if len(numbers) <= _MOST:
        return list(numbers)
    last = len(numbers) - 1
    return sorted({numbers[round(place * last / (_MOST - 1))] for place in range(_MOST)})


def overlapping(entry: Entry, recent: Iterable[Record]) -> list[Record]:
    """The outcomes before this one that it could not see when it began, oldest first."""
    seen = entry.outcome.seen
    if seen is None:
        return []
    return [record for record in recent if record.status == "succeeded" and not _was_seen(record, entry, seen)]


def _was_seen(record: Record, entry: Entry, seen: str) -> bool:
    """Whether an action saw an outcome before its own for certain: that of its own chunk is in no snapshot."""
    is_of_its_chunk = record.xid is not None and record.xid == entry.outcome.xid
    return is_of_its_chunk or is_visible(record, seen)


def is_visible(record: Record, seen: str) -> bool:
    """Whether an outcome's transaction is in a snapshot: PostgreSQL's text form of one, or SQLite's last position."""
    if ":" not in seen:
        return record.position <= int(seen)
    low, high, running = seen.split(":")
    if record.xid is None:
        return True
    if record.xid < int(low):
        return True
    return record.xid < int(high) and str(record.xid) not in running.split(",")
