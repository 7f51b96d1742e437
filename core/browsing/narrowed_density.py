"""How much of what a filter wants happened when: counts in buckets, at bounded cost. Used by `browsing.density`.

What is wanted of a short range is counted, and what is rare by an index, wherever it lies. Of what is neither, some
records of each bucket are looked at, spread evenly over its positions, and stand for the others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Select, Text, cast, func, literal_column, select, text

from actionbus.core.journal import Journal
from actionbus.core.storage import by_value
from actionbus.core.storage.conditions import conditions_of
from actionbus.core.storage.moments import numbers
from actionbus.core.storage.table import journal_table
from actionbus.core.values import payload
from actionbus.core.values.journal_filter import JournalFilter

Counts = list[Counter[str | None]]
"""Of each bucket, how many records have which status."""
_PLACE: Final = literal_column("m.place", BigInteger).label("place")
_SPARSER: Final = 3
"""So many times fewer are looked at where they are no more than an estimate, in which more change little."""
_OF_RARE: Final = 4
"""Of values that are looked up at a time, each may be so rare."""


def counted(
    connection: Connection, journal: Journal, where: JournalFilter, edges: Sequence[int], most: int
) -> tuple[Counts, int | None]:
    """Of buckets between positions. At most about so many records are looked at. Also, where counts are estimates, from
    how many records of each bucket; None where they are exact.
    """
    low, high = edges[0], edges[-1]
    if high - low <= most:
        return _sorted_in(connection, _between(journal, where, low, high), edges), None
    rare = by_value.indexed(where)
    if rare is not None and len(rare.values) <= _OF_RARE:
        table = journal_table(journal.backend.schema)
        found = by_value.positions(connection, table, rare, low, high, most, newest_first=False)
        if found.reached is None:
            return _sorted_in(connection, _at(journal, where, found.found), edges), None
    return _estimated(connection, journal, where, edges, max(1, most // _SPARSER // (len(edges) - 1)))


def _between(journal: Journal, where: JournalFilter, low: int, high: int) -> Select[Any]:
    table = journal_table(journal.backend.schema)
    c = table.c
    near = select(c.position, c.status).where(c.position > low, c.position <= high)
    return near.where(*conditions_of(where, table, journal.backend.comparable))


def _at(journal: Journal, where: JournalFilter, positions: Sequence[int]) -> Select[Any]:
    """Those at some positions, each of which is looked up by itself, whatever the planner expects of them."""
    table = journal_table(journal.backend.schema)
    wanted = conditions_of(where, table, journal.backend.comparable)
    there = select(func.coalesce(cast(table.c.status, Text), "")).where(table.c.position == _PLACE, *wanted)
    source = text(f"{numbers(journal.dialect, 'chosen', 'place')} m")
    chosen = source.bindparams(chosen=payload.dumps([[each] for each in positions]))
    found = there.scalar_subquery().label("found")
    looked_up = select(_PLACE, found).select_from(chosen).subquery()
    return select(looked_up.c.place, looked_up.c.found).where(looked_up.c.found.is_not(None))


def _sorted_in(connection: Connection, wanted: Select[Any], edges: Sequence[int]) -> Counts:
    counts: Counts = [Counter() for _ in edges[1:]]
    for position, status in connection.execute(wanted):
        counts[bisect_left(edges, position) - 1][status or None] += 1
    return counts


def _estimated(
    connection: Connection, journal: Journal, where: JournalFilter, edges: Sequence[int], most: int
) -> tuple[Counts, int]:
    looked_at: list[int] = []
    shares: list[float] = []
    for low, high in pairwise(edges):
        size = min(high - low, most)
        looked_at += [low + 1 + (high - low) * number // size for number in range(size)]
        shares.append((high - low) / size if size else 0.0)
    counts = _sorted_in(connection, _at(journal, where, looked_at), edges)
    told = [
        Counter({status: round(count * share) for status, count in each.items()})
        for each, share in zip(counts, shares, strict=True)
    ]
    return told, most
