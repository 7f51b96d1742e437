"""Where history can be cut, so that its slices are verified side by side. Used by `actionbus replay verify --jobs`.

Each action is judged on the recorded state before it, so that a slice says of its actions what the whole would.
"""

from __future__ import annotations

from itertools import islice, pairwise
from typing import Final

from actionbus.core import Journal
from actionbus.replay.past.history import entries, first_position

_LOOKED_AT: Final = 50
"""Actions behind a cut that may have begun to write their records before it: those of nested ones."""


def slices(journal: Journal, after: int, upto: int, number: int) -> list[tuple[int, int]]:
    """So many slices as long as each other, nearly; none parts the records of one transaction."""
    cuts = [after, *(_apart(journal, after + (upto - after) * n // number) for n in range(1, number)), upto]
    return [(low, high) for low, high in pairwise(cuts) if low < high]


def _apart(journal: Journal, cut: int) -> int:
    firsts = [first_position(each) - 1 for each in islice(entries(journal, cut), _LOOKED_AT)]
    return min([cut, *firsts])
