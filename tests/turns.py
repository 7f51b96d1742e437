"""On which of the two databases tests run in `make test`; `make torture` runs all of them on both. Called by `conftest.py`.

A test of what lies where they differ, in `core/storage` and `core/history`, runs on both. Elsewhere a test that goes
through many values takes each of them on one database, in turn; what stands upon `core` reaches both by its doors alone,
so that there the tests themselves take turns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from zlib import crc32

import pytest

DATABASES = ("sqlite", "postgresql")
WHERE_THEY_DIFFER = ("tests/core/storage/", "tests/core/history/")
ABOVE = ("tests/adapters/", "tests/projections/")


def those_in_turn(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Of tests that would run on both databases, those that are to run."""
    twins: dict[str, dict[str, list[pytest.Item]]] = {}
    for item in items:
        twins.setdefault(item.nodeid.partition("[")[0], {}).setdefault(_values(item), []).append(item)
    return [
        item
        for name, by_values in twins.items()
        for number, each in enumerate(by_values.values())
        for item in _taken(name, number, len(by_values), each)
    ]


def _taken(name: str, number: int, of: int, each: list[pytest.Item]) -> list[pytest.Item]:
    """Of one test with some values, the `number`-th `of` so many."""
    if len(each) != len(DATABASES) or name.startswith(WHERE_THEY_DIFFER):
        return each
    if of > 1:
        return [each[turn(number, len(DATABASES))]]
    return [each[crc32(name.encode()) % len(DATABASES)]] if name.startswith(ABOVE) else each


def _values(item: pytest.Item) -> str:
    """What a test is given, but for the database."""
    return re.sub(rf"(?<=[-\[])({'|'.join(DATABASES)})(?=[-\]])", "", item.name)


def turn(at: int, of: int) -> int:
    """The sum of its digits: counting on alone, what comes in pairs would have each of a pair on one database."""
    return (at % of + turn(at // of, of)) % of if at else 0
