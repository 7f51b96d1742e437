"""What others commit between the statements of an action that runs in a sandbox, where all is one transaction.

So a savepoint that the action rolls back takes away what they committed since, which is put there again. The sandbox
calls it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Final

from actionbus.replay.past.nets import Net
from actionbus.replay.past.overlap import Given

Commits = Callable[[Given], Sequence[Net]]
"""Given a statement: what others commit just before it."""
_SAVEPOINT: Final = re.compile(r"\s*SAVEPOINT\s+(\S+)", re.I)
_RELEASE: Final = re.compile(r"\s*RELEASE\s+(?:SAVEPOINT\s+)?(\S+)", re.I)
_ROLLBACK: Final = re.compile(r"\s*ROLLBACK\b(?:.*\bTO\s+(?:SAVEPOINT\s+)?(\S+))?", re.I)


class Happening:
    """Told of each statement before it is sent.

    `images` gives the numbers of those that there are since the action began, `put` makes rows what nets left.
    """

    def __init__(self, commits: Commits, images: Callable[[], list[int]], put: Callable[[Sequence[Net]], None]) -> None:
        self._commits = commits
        self._images = images
        self._put = put
        self._foreign: list[range] = []
        self._marks: list[int] = []
        """The last image before each statement."""
        self._savepoints: dict[str, int] = {}
        """By name, before which statement it was set."""
        self._done: list[tuple[int, Sequence[Net]]] = []
        self._lost: list[Net] = []

    def before(self, number: int, statement: str, values: Any) -> None:
        """A statement is about to be sent."""
        last = self._marks[-1] if self._marks else 0
        if found := _ROLLBACK.match(statement):  # nothing else can be sent where an error has struck
            self._marks.append(last)
            since = self._savepoints.get(found[1] or "", 0)
            self._lost += [net for at, nets in self._done if at > since for net in nets]
            self._done = [each for each in self._done if each[0] <= since]
            return
        if found := _SAVEPOINT.match(statement):
            self._savepoints[found[1]] = number
        there = self._images()
        lost, self._lost = self._lost, []
        nets = [*lost, *self._commits(Given(number, statement, values, sum(not self.is_foreign(n) for n in there)))]
        last = max(last, *there, 0)
        if nets:
            self._put(nets)
            self._done.append((number, nets))
            low, last = last, max(last, *self._images(), 0)
            self._foreign.append(range(low + 1, last + 1))
        self._marks.append(last)

    def is_foreign(self, image: int) -> bool:
        """Whether an image is of what others committed."""
        return any(image in theirs for theirs in self._foreign)

    def statement_of(self, image: int) -> int:
        """The number of the statement that made it."""
        return bisect_left(self._marks, image)


def end_of_savepoints(statements: Sequence[str], number: int) -> int | None:
    """The number of the statement that ends the outermost savepoint around another one; of that, if none is around it.

    None if the savepoint lasts as long as the action.
    """
    around: list[str] = []
    for at, statement in enumerate(statements, start=1):
        if at == number and not around:
            return number
        if found := _SAVEPOINT.match(statement):
            around.append(found[1])
        elif (found := _RELEASE.match(statement) or _ROLLBACK.match(statement)) and found[1] in around:
            del around[around.index(found[1]) :]
            if at > number and not around:
                return at
    return None
