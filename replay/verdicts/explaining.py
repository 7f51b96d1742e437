"""Looks for what an action saw of others that overlapped, so that it comes out as recorded. Used by the replayer.

Under READ COMMITTED each statement sees what was committed when it began, and what a statement sees decides, with what
those before it saw, what the handler does next. So the ways in which others may have been committed between the
statements are a tree: before each statement to which it matters (`mattering`) a choice how many of them were. From what
came nearest to history one chooses otherwise first. A branch is given up at the first statement that changes a row as
history did not. Two things are known and cut branches too: another that was committed after a change of the action's
(its record tells which images there were by then) was not seen by the statement that made this, nor by any before it;
and one that wrote what a third had written, or had seen it, was committed after it.

First in the order of outcomes, which nearly always is that of commits. Then widely: commits lie in another order where
records do not forbid it; and a statement that waited for rows sees these as they have become, but none that are new.

Where all of the tree was seen, a difference that is left is none that others made. Where there is more than can be
tried, `lasting` says which differences nothing that was tried took away: a change of the code that has nothing to do
with what others did is among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Final, NamedTuple

from actionbus.replay.past.overlap import Matters, Other, SeenOthers

_STATES: Final = 7
"""States of the beginning that are tried."""
_TRIES: Final = 250
"""How often an action is run again for either of the two ways to go through the tree."""
_NEAREST: Final = 8
"""Of what was tried, so much is kept."""


class TriedWay(NamedTuple):
    """What came of one try."""

    differences: frozenset[str]
    """The fields that differ from history; none if it came out as recorded."""
    has_status: bool
    """Whether it ended as it did in history."""
    departs: int | None
    """The first statement that changed a row as history did not, if any is known to."""
    is_order: bool
    """Whether it differs in nothing but the order of what it tells."""


Try = Callable[[SeenOthers], TriedWay]


class Search:
    """Goes through what an action may have seen, once, when made."""

    def __init__(self, others: Sequence[Other], matters: Matters, tried: Try) -> None:
        self._others = others
        self._matters = matters
        self._tried = tried
        self._nearest: list[tuple[int, int, SeenOthers]] = []
        self._lasting: dict[bool, frozenset[str]] = {}
        self.tries = 0
        self.is_complete = True
        """Whether everything was tried that it may have seen."""
        self.reordered: SeenOthers | None = None
        """Something with which it differs from history only in the order of what it tells."""
        self.seen = next(filter(self._explains, self._ways()), None)
        """What explains how it came out."""

    @property
    def lasting(self) -> frozenset[str]:
        """The fields that differed whatever was tried, where it ended with the status that it had, if it ever did."""
        return self._lasting.get(True, self._lasting.get(False, frozenset()))

    def nearest(self) -> list[SeenOthers]:
        """What came nearest to history, the nearest first."""
        return [seen for _, _, seen in self._nearest]

    def _ways(self) -> Iterator[SeenOthers]:
        for begun in _spread(range(len(self._others))):
            yield SeenOthers(self._others, self._matters, begun=begun, grows=False)
        for widely in (False, True):
            yield from self._tree(widely=widely)

    def _tree(self, *, widely: bool) -> Iterator[SeenOthers]:
        """Each way once: after a run, those that choose otherwise at one statement behind what was chosen for it."""
        order = count()
        waiting: list[tuple[int, int, list[int]]] = [(0, next(order), [])]
        last = self.tries + _TRIES
        while waiting:
            if self.tries >= last:
                self.is_complete = False
                return
            _, _, choices = heappop(waiting)
            yield (seen := SeenOthers(self._others, self._matters, choices, widely=widely))
            made = [each.chosen for each in seen.decisions]
            for place, each in enumerate(seen.decisions[len(choices) :], start=len(choices)):
                if self._departs is not None and each.number > self._departs:
                    break
                for chosen in range(1, each.options):
                    heappush(waiting, (self._differing, next(order), [*made[:place], chosen]))

    def _explains(self, seen: SeenOthers) -> bool:
        tried = self._tried(seen)
        self.tries += 1
        self._departs, self._differing = tried.departs, len(tried.differences)
        if tried.is_order and self.reordered is None:
            self.reordered = seen
        before = self._lasting.get(tried.has_status, tried.differences)
        self._lasting[tried.has_status] = before & tried.differences
        self._nearest.append((len(tried.differences), self.tries, seen))
        self._nearest = sorted(self._nearest, key=lambda each: each[:2])[:_NEAREST]
        return not tried.differences


def _spread(numbers: Sequence[int]) -> list[int]:
    """At most `_STATES` of them, the first and the last among them."""
    if len(numbers) <= _STATES:
        return list(numbers)
    last = len(numbers) - 1
    return sorted({numbers[round(place * last / (_STATES - 1))] for place in range(_STATES)})
