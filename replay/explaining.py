"""Looks for what an action saw of others that overlapped, so that it comes out as recorded. Used by the replayer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final

from actionbus.replay.nets import Net
from actionbus.replay.overlap import NEVER, SeenOthers, Theirs, at, moments, near, orders, states, times

_MOST_TRIES: Final = 150
"""How often an action that differs is run again for an explanation."""
Try = Callable[[SeenOthers], tuple[int, int]]
"""Runs the action where it saw that; how many differences there are, and how many statements it had."""


def explained(theirs: Theirs, recorded: Sequence[Net], parts: Sequence[float], tried: Try) -> SeenOthers | None:
    """What explains how the action came out; None if nothing that was tried does.

    `parts` are when the others committed, as parts of the time that it took.
    """
    search = _Search(tried)
    if seen := search.first(chain(states(theirs), orders(theirs, recorded))):
        return seen
    count = search.statements
    if seen := search.first(chain(moments(theirs, count), times(theirs, count, parts))):
        return seen
    while search.left > 0 and search.has_come_nearer():
        if seen := search.first(at(theirs, when) for when in near(search.nearest, search.statements)):
            return seen
    return None


class _Search:
    """Tries one thing after the other, and remembers what came nearest to history."""

    def __init__(self, tried: Try) -> None:
        self._tried = tried
        self._fewest = self._known = NEVER
        self.nearest: list[int] = []
        self.statements = 0
        """The most that the action had."""
        self.left = _MOST_TRIES

    def has_come_nearer(self) -> bool:
        """Whether something came nearer since this was asked last."""
        is_nearer, self._known = self._fewest < self._known, self._fewest
        return is_nearer

    def first(self, seens: Iterable[SeenOthers]) -> SeenOthers | None:
        """The first of them with which the action comes out as recorded."""
        for seen in seens:
            if self.left <= 0:
                return None
            self.left -= 1
            differences, statements = self._tried(seen)
            self.statements = max(self.statements, statements)
            if differences == 0:
                return seen
            if differences < self._fewest:
                self._fewest, self.nearest = differences, list(seen.when)
        return None
