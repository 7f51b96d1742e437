"""Rows that SKIP LOCKED passed over, since others held them. Used by the replayer.

Who held a row, and left it as it was or committed later, is in no record. What is known is which rows an action took in
history and which it takes now. Those that it takes now alone were passed over, if somebody ran at that time who may
have held them: they are put out of the statement's sight, and the action has to come out as recorded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from actionbus.replay.past.nets import Net
from actionbus.replay.past.overlap import Given

SKIPS: Final = re.compile(r"\bskip\s+locked\b", re.IGNORECASE)
_MOST: Final = 20
"""So many rows at most are taken to be passed over, one after the other."""


class OutOfSight:
    """Takes rows away before a statement that skips what is locked, and puts them back before the next."""

    def __init__(self, rows: Sequence[Net]) -> None:
        self._gone = [net._replace(after=None) for net in rows]
        self._back = [net._replace(before=None, after=net.before) for net in rows]
        self.begin()

    def begin(self) -> None:
        """All is in sight."""
        self._is_away = False

    def commits(self, given: Given) -> Sequence[Net]:
        """What happens before a statement."""
        return self.around(given, [])

    def around(self, given: Given, nets: list[Net]) -> list[Net]:
        """The same where others commit these: rows that come back, or go, as these have left them."""
        was, self._is_away = self._is_away, SKIPS.search(given.text) is not None
        if was and self._is_away and not nets:
            return []
        return [*(self._back if was else ()), *nets, *(self._gone if self._is_away else ())]


Run = Callable[[OutOfSight], tuple[list[Net], bool]]
"""Runs the action while rows are out of sight: those that it changes, and whether it comes out as recorded."""


def passed_over(recorded: Iterable[Net], now: Iterable[Net], run: Run) -> bool:
    """Whether the action comes out as recorded where rows that it takes now are passed over."""
    taken = {(net.table, str(net.key)) for net in recorded}
    away: list[Net] = []
    while len(away) < _MOST:
        known = {(net.table, str(net.key)) for net in away}
        more = [
            net
            for net in now
            if net.before is not None and net.shape.key and (net.table, str(net.key)) not in taken | known
        ]
        if not more:
            return False
        away += more
        now, is_same = run(OutOfSight(away))
        if is_same:
            return True
    return False
