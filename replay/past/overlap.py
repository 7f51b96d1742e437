"""Which transactions overlapped an action: their records lie before its outcome, but its snapshot did not show them.

What it saw of them nobody recorded. `SeenOthers` is one way in which it may have been: with an action's statements in
their order, which of them were committed before each. Used by the replayer, and by `explaining`, which goes through
the ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple, Protocol

from actionbus.core import Record
from actionbus.replay.past.history import Entry
from actionbus.replay.past.nets import HeldRow, Net

_FEW: Final = 3
"""Of so many that matter to a statement, all choices are tried in the end; of more each alone."""
_MOST_BUT_FOR_ONE: Final = 24
"""So many choices at most are of those that came first but for one, which was committed long after its position."""
_NEAR: Final = 100
"""Of so many before it is asked whether one had seen them."""
LOCKS: Final = re.compile(r"\b(update|delete|merge|lock)\b|\bfor\s+(no\s+key\s+)?(update|share|key)\b", re.I)
"""What waits for others' rows, and then sees these as they have become, but no rows that are new."""

_MORE: Final = re.compile(r";\s*\S|^\s*(call|do)\b", re.I)


class Other(NamedTuple):
    """A transaction that overlapped, as it was committed: all of it at once."""

    records: list[Record]
    nets: list[Net]
    behind: frozenset[int]
    """Those that were committed before it for certain, by their numbers: it wrote rows of theirs, or had seen them."""
    written: int
    """So many changes of its own the action had made, before the other was committed."""


class Decision(NamedTuple):
    """What was chosen before a statement, of how many."""

    number: int
    options: int
    chosen: int


class Given(NamedTuple):
    """A statement that is about to be sent: its number, counted from 1, its parameters, the changes made before it."""

    number: int
    text: str
    values: Any
    written: int

    @property
    def is_one(self) -> bool:
        """Whether the database is sent one: many sets of parameters, or a procedure, are more."""
        return not isinstance(self.values, list) and not _MORE.search(self.text)


class Matters(Protocol):
    """Whether it makes a difference to a statement what others committed."""

    def to(self, given: Given, other: Other) -> bool:
        """Whether one of them can make a difference to it."""

    def tables(self, given: Given) -> frozenset[str]:
        """The tables that it names."""

    def goes_on(self, given: Given) -> bool:
        """Whether further statements follow from it in the database, which see what was committed before each."""


class Beside(Protocol):
    """What happens to rows besides, while an action runs."""

    def begin(self) -> None:
        """The action begins, for the first time or again."""

    def around(self, given: Given, nets: list[Net]) -> list[Net]:
        """What happens just before a statement where others commit these."""


class SeenOthers:
    """One way in which others were committed meanwhile.

    The first `begun` were committed when the action began, all others later: before the statements to which that
    matters, as `choices` say, of the first of these, of the next. What is not chosen there comes later, or not at all.
    Unless it `grows`, none is.
    `widely`: not only the first ones in the order of their outcomes; and of those that a statement waited for, the rows
    that it may have waited for alone.
    """

    def __init__(
        self,
        others: Sequence[Other],
        matters: Matters | None = None,
        choices: Sequence[int] = (),
        *,
        begun: int = 0,
        grows: bool = True,
        widely: bool = False,
    ) -> None:
        self._others = others
        self._matters = matters
        self._choices = choices
        self._begun = begun
        self._grows = grows
        self._widely = widely
        self.beside: Beside | None = None
        self._start()

    def _start(self) -> None:
        self._pending = list(range(self._begun, len(self._others)))
        self._rest: list[Net] = []
        self.decisions: list[Decision] = []
        self.first_before: str | None = None
        """The first statement to which it made a difference whether some of them were committed."""
        if self.beside is not None:
            self.beside.begin()

    def taken_back(self) -> list[Net]:
        """What they had not committed when it began."""
        self._start()
        return [net for each in self._others[self._begun :] for net in each.nets]

    def commits(self, given: Given) -> list[Net]:
        """What they commit just before a statement, and what happens then besides."""
        nets = self._committed(given)
        return nets if self.beside is None else self.beside.around(given, nets)

    def _committed(self, given: Given) -> list[Net]:
        nets, self._rest = self._rest, []
        if self._matters is None or not self._pending:
            return nets
        relevant = [n for n in self._pending if self._matters.to(given, self._others[n])]
        if not relevant:
            return nets
        self.first_before = self.first_before or given.text
        if not self._grows:
            return nets
        options = list(self._options(given, relevant))
        place = len(self.decisions)
        if len(options) == 1:
            return nets
        chosen = self._choices[place] if place < len(self._choices) else 0
        self.decisions.append(Decision(given.number, len(options), chosen))
        whole, numbers = options[min(chosen, len(options) - 1)]
        self._pending = [n for n in self._pending if n not in numbers]
        for n in sorted(numbers):
            for net in self._others[n].nets:
                is_seen = whole or (net.before is not None and net.table in self._matters.tables(given))
                (nets if is_seen else self._rest).append(net)
        return nets

    def _options(self, given: Given, relevant: Sequence[int]) -> Iterator[tuple[bool, tuple[int, ...]]]:
        """Whether they are seen whole, and who they are: nobody, the first ones, and if it is to be tried others."""
        assert self._matters is not None
        is_one = given.is_one and not self._matters.goes_on(given)
        able = [n for n in self._pending if not is_one or self._others[n].written <= given.written]
        told: set[tuple[int, ...]] = {()}
        yield True, ()
        first = next((place for place, n in enumerate(self._pending) if n not in able), len(self._pending))
        for place, n in enumerate(self._pending[:first], start=1):
            if n in relevant:
                told.add(found := tuple(self._pending[:place]))
                yield True, found
        if not self._widely:
            return
        alone = [n for n in relevant if n in able]
        sizes = range(1, len(alone) + 1) if len(alone) <= _FEW else (1,)
        for chosen in (each for size in sizes for each in combinations(alone, size)):
            found = tuple(sorted(set().union(*(self._with_those_before(n) for n in chosen))))
            if found not in told and set(found) <= set(able):
                told.add(found)
                yield True, found
        for found in self._but_for_one([each for each in self._pending[:first] if each in relevant]):
            if found not in told:
                told.add(found)
                yield True, found
        if LOCKS.search(given.text):
            yield from ((False, found) for found in sorted(told) if found)

    def _but_for_one(self, relevant: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """The first ones without one of them, and those that came after it for certain; the last of them first."""
        pairs = sorted(combinations(range(len(relevant)), 2), key=lambda pair: pair[1] - pair[0])
        for late, upto in pairs[:_MOST_BUT_FOR_ONE]:
            gone: set[int] = set()
            found = self._pending[: self._pending.index(relevant[upto]) + 1]
            for n in found:
                if n == relevant[late] or self._others[n].behind & gone:
                    gone.add(n)
            yield tuple(n for n in found if n not in gone)

    def _with_those_before(self, number: int) -> set[int]:
        found = {number}
        for n in sorted(self._others[number].behind & set(self._pending), reverse=True):
            found |= self._with_those_before(n) if n not in found else set()
        return found


NOTHING_SEEN: Final = SeenOthers([])


def others_of(
    records: Iterable[Record],
    nets_of: Callable[[Record], list[Net]],
    own_images: Sequence[int],
    images_upto: Mapping[int, int | None],
) -> list[Other]:
    """Those that wrote anything, in the order of their outcomes.

    `own_images` are the numbers of the action's own changes, `images_upto` tells of a record which was the last change
    of all when it was appended: what the action had changed by then, it changed before the other was committed.
    """
    found: list[Other] = []
    rows: dict[tuple[str, Any], list[int]] = {}
    for together in by_transaction(records):
        nets = [net for record in together for net in nets_of(record)]
        if not nets:
            continue
        last = together[-1]
        upto = images_upto.get(last.position) or 0
        behind = {number for net in nets for number in rows.get(_place(net, net.before), ())}
        if last.seen is not None:
            near = range(max(0, len(found) - _NEAR), len(found))
            behind |= {number for number in near if is_visible(found[number].records[-1], last.seen)}
        for row in {_place(net, net.after) for net in nets}:
            rows.setdefault(row, []).append(len(found))
        found.append(Other(together, nets, frozenset(behind), sum(number <= upto for number in own_images)))
    return found


def _place(net: Net, held: HeldRow | None) -> tuple[str, Any]:
    """A row's key; of a table without one all that it holds: rows that are alike are one, and none is like nothing."""
    if net.shape.key:
        return net.table, str(net.key)
    return net.table, object() if held is None else (held.shape.shape, held.mark())


def by_transaction(records: Iterable[Record]) -> list[list[Record]]:
    """Those of nested actions with their outer one's: what is committed together is seen together."""
    found: dict[int | None, list[Record]] = {}
    for record in sorted(records, key=lambda each: each.position):
        found.setdefault(record.xid, []).append(record)
    return sorted(found.values(), key=lambda each: each[-1].position)


def overlapping(entry: Entry, recent: Iterable[Record]) -> list[Record]:
    """The outcomes before this one, and bypasses, that it could not see when it began, and that wrote; oldest first."""
    return [record for record in unseen(entry, recent) if record.status == "succeeded" or record.kind == "bypass"]


def unseen(entry: Entry, recent: Iterable[Record]) -> list[Record]:
    """All of those that it could not see when it began: those that failed may have held rows until then."""
    seen = entry.outcome.seen
    return [] if seen is None else [record for record in recent if not _was_seen(record, entry, seen)]


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
