"""Bisect: the first action after which a condition holds, in few checks. `actionbus replay bisect` asks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actionbus.core.values.loading import load
from actionbus.replay.errors import ReplayError
from actionbus.replay.timeline import Timeline

Check = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Found:
    """`position` is that of the first action after which the condition holds; None if it was not detected."""

    position: int | None
    before: int
    """The last position at which it was seen not to hold."""
    checks: int
    actions: int
    note: str = ""


def bisect(check: Check, positions: list[int], good: int, *, linear: bool = False) -> Found:
    """Search `positions`, which are ascending, for the first at which `check` is true; it must be false at `good`.

    Binary search: ceil(log2 n) checks after the two at the ends. What is left of 2·log2(n) is spent on samples spread
    evenly, since a condition may come and go: where it is false at the end, and before what was found. `linear` makes
    all n checks.
    Raises ReplayError if it holds at `good` already.
    """
    counted = _Counted(check)
    if counted(good):
        raise ReplayError(f"the condition holds at the good end (position {good}) already; choose an earlier --good")
    if not positions:
        return Found(None, good, counted.made, 0, "there are no actions in this range")
    if linear:
        return _linear(counted, positions, good)
    halvings = math.ceil(math.log2(len(positions) + 1))
    most = max(math.floor(2 * math.log2(len(positions))), halvings + 2)
    low, high, note = -1, len(positions) - 1, ""
    if not counted(positions[high]):
        spare = max(1, most - halvings - counted.made)
        high = next((each for each in _samples(low, high, spare) if counted(positions[each])), -1)
        if high < 0:
            return Found(None, good, counted.made, len(positions),
                         "not detected: it does not hold at the end nor at the samples between; if it comes and goes, "
                         "--linear looks after every action")  # fmt: skip
        note = "it does not hold at the end any more: it comes and goes, so this may not be the first time"
    low, high = _binary(counted, positions, low, high)
    for each in _samples(-1, low, most - counted.made):
        if counted(positions[each]):
            low, high = _binary(counted, positions, -1, each)
            note = "it comes and goes: this is the earliest time that was found; --linear finds the first"
            break
    return Found(positions[high], good if low < 0 else positions[low], counted.made, len(positions), note)


class _Counted:
    def __init__(self, check: Check) -> None:
        self._check = check
        self._known: dict[int, bool] = {}
        self.made = 0

    def __call__(self, position: int) -> bool:
        if position not in self._known:
            self.made += 1
            self._known[position] = self._check(position)
        return self._known[position]


def _binary(check: _Counted, positions: list[int], low: int, high: int) -> tuple[int, int]:
    """`low` does not hold (or is before all), `high` does; the same when they are neighbours."""
    while high - low > 1:
        middle = (low + high) // 2
        if check(positions[middle]):
            high = middle
        else:
            low = middle
    return low, high


def _samples(low: int, high: int, count: int) -> list[int]:
    """At most `count` numbers between, both ends excluded, spread evenly; the latest first."""
    between = high - low - 1
    count = min(count, between)
    return sorted({low + 1 + (number * between) // count for number in range(count)}, reverse=True) if count > 0 else []


def _linear(check: _Counted, positions: list[int], good: int) -> Found:
    before = good
    for position in positions:
        if check(position):
            return Found(position, before, check.made, len(positions))
        before = position
    return Found(None, before, check.made, len(positions), "it holds after none of these actions")


def sql_check(timeline: Timeline, sql: str) -> Check:
    """Holds where the statement's first value is true, and not where it has no row. `count(*)` is true above zero."""

    def check(position: int) -> bool:
        timeline.go(position)
        _, rows = timeline.query(sql)
        return bool(rows and rows[0] and rows[0][0])

    return check


def python_check(timeline: Timeline, path: str) -> Check:
    """Holds where `module:function` says so; it is given a SQLAlchemy Connection to the state. Raises ReplayError."""
    predicate: Callable[[Any], Any] = loaded(path, "predicate")

    def check(position: int) -> bool:
        timeline.go(position)
        with timeline.sandbox.aside():
            timeline.sandbox.log.pause()
            return bool(predicate(timeline.sandbox.connection))

    return check


def loaded(path: str, what: str) -> Any:
    """The object at `module:attribute`. Raises ReplayError."""
    try:
        return load(path, what)
    except ValueError as error:
        raise ReplayError(str(error)) from None
