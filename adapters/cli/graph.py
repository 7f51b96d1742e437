"""Records drawn below what caused them, for `actionbus log --graph`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

from actionbus.core import Record

DEEPEST: Final = 12
"""Levels that are drawn; what lies deeper stands at the last of them."""


def branches(records: Sequence[Record]) -> Iterator[tuple[str, Record]]:
    """Each record once, with the lines to draw before it: after what caused it, if that is among them; else in order.

    Of an action with two records among them, the submitted one is its own, and its outcome hangs from it.
    """
    first: dict[UUID, int] = {}
    for number, record in enumerate(records):
        first.setdefault(record.action_id, number)
    below: dict[int | None, list[int]] = {}
    for number, record in enumerate(records):
        cause = first.get(record.cause_id) if record.cause_id else None
        own = first[record.action_id]
        below.setdefault(own if own != number else cause, []).append(number)
    left = [(number, "", True, 0) for number in reversed(below.get(None, []))]
    while left:
        number, lines, is_last, depth = left.pop()
        drawn = lines + ("└─" if is_last else "├─") if depth else ""
        yield drawn, records[number]
        under = lines + ("  " if is_last else "│ ") if depth else ""
        children = below.get(number, [])
        left += [
            (each, under if depth < DEEPEST else lines, each == children[-1], depth + 1) for each in reversed(children)
        ]
