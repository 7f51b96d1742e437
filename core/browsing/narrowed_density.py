"""How much of what a filter wants happened when: counts in buckets, at bounded cost. Used by `browsing.density`.

What is wanted of a short range is counted, and what is rare by an index, wherever it lies; of a long range the newest
part. Of what is neither, some records of each bucket are looked at and stand for the others: spread evenly over its
positions, or, where they are to have touched a table or a row, side by side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Connection, Select, Text, TextClause, cast, func, literal_column, select, text

from actionbus.core.browsing.pages import SEARCHED
from actionbus.core.journal import Journal
from actionbus.core.storage.by_value import indexed
from actionbus.core.storage.conditions import conditions_of
from actionbus.core.storage.moments import numbers
from actionbus.core.storage.table import journal_table
from actionbus.core.values import payload
from actionbus.core.values.journal_filter import JournalFilter

Counts = list[Counter[str | None]]
"""Of each bucket, how many records have which status."""
PLACE: Final = literal_column("m.place", BigInteger).label("place")
"""The column of `places`."""
_SPARSER: Final = 3
"""So many times fewer are looked at where they are no more than an estimate, in which more change little."""
_OF_RARE: Final = 4
"""Of values that are looked up at a time, each may be so rare."""
_PIECES: Final = 40
"""Into so many a history is cut, of each of which some records are read side by side: to find a place costs most."""
_IMAGES: Final = 20
"""So many changes are looked at for each record, since an action may make many."""


class Tally(NamedTuple):
    """What was counted."""

    counts: Counts
    estimated_from: int | None = None
    """Where counts are estimates, from how many records of each bucket; None where they are exact."""
    counted_beyond: int | None = None
    """Where they are, the records beyond this position were counted all the same."""


def counted(journal: Journal, where: JournalFilter, edges: Sequence[int], most: int) -> Tally:
    """Of buckets between positions. At most about so many records are looked at, fewer where words are looked for."""
    if where.text is not None:
        most = min(most, SEARCHED)
    low, high = edges[0], edges[-1]
    wanted = _wanted(journal, where, low, high, most)
    if wanted is not None:
        return Tally(_sorted_in(journal, wanted, edges))
    since = max(low, high - (most if where.text is not None else most // (2 * _SPARSER)))  # words: what a page looks at
    newest = _wanted(journal, where, since, high, most)
    if newest is None:
        since = high  # an action among them changed more than is looked at
    counts = [Counter[str | None]() for _ in edges[1:]] if newest is None else _sorted_in(journal, newest, edges)
    size = max(1, most // _SPARSER // (len(edges) - 1))
    older = [min(edge, since) for edge in edges]
    for count, estimated in zip(counts, _estimated(journal, where, older, size), strict=True):
        count.update(estimated)
    return Tally(counts, size, since)


def _wanted(journal: Journal, where: JournalFilter, low: int, high: int, most: int) -> Select[Any] | None:
    """What reads all that are wanted in a range, position and status; None where more would be looked at."""
    if where.touching is not None:
        table, *key = where.touching
        touched = journal.teller.needed().few_positions_of(table, key, low, high, most)
        return None if touched is None else _at(journal, where, touched)
    if high - low <= most:
        return _between(journal, where, low, high)
    rare = indexed(where)
    if rare is not None and len(rare.values) <= _OF_RARE:
        found = journal.positions_with(rare, low, high, most, newest_first=False)
        if found.reached is None:
            return _at(journal, where, found.found)
    return None


def _between(journal: Journal, where: JournalFilter, low: int, high: int) -> Select[Any]:
    table = journal_table(journal.backend.schema)
    c = table.c
    near = select(c.position, c.status).where(c.position > low, c.position <= high)
    return near.where(*conditions_of(where, table, journal.backend.comparable))


def _at(journal: Journal, where: JournalFilter, positions: Sequence[int]) -> Select[Any]:
    """Those at some positions, each of which is looked up by itself, whatever the planner expects of them."""
    table = journal_table(journal.backend.schema)
    wanted = conditions_of(where, table, journal.backend.comparable)
    there = select(func.coalesce(cast(table.c.status, Text), "")).where(table.c.position == PLACE, *wanted)
    found = there.scalar_subquery().label("found")
    looked_up = select(PLACE, found).select_from(places(journal, positions)).subquery()
    return select(looked_up.c.place, looked_up.c.found).where(looked_up.c.found.is_not(None))


def places(journal: Journal, positions: Sequence[int]) -> TextClause:
    """A row for each of some positions, however many."""
    source = text(f"{numbers(journal.dialect, 'chosen', 'place')} m")
    return source.bindparams(chosen=payload.dumps([[each] for each in positions]))


def _sorted_in(journal: Journal, wanted: Select[Any], edges: Sequence[int]) -> Counts:
    def read(connection: Connection) -> Counts:
        counts: Counts = [Counter() for _ in edges[1:]]
        for position, status in connection.execute(wanted):
            counts[bisect_left(edges, position) - 1][status or None] += 1
        return counts

    return journal.backend.read(read)


def _estimated(journal: Journal, where: JournalFilter, edges: Sequence[int], most: int) -> Counts:
    step = 1 if where.touching is None else -(-(len(edges) - 1) // _PIECES)
    ends = [*edges[:-1:step], edges[-1]]
    sizes = [min(high - low, most * step) for low, high in pairwise(ends)]
    looked_at = (_spread if where.touching is None else _side_by_side)(journal, where, ends, sizes)
    found = _sorted_in(journal, _at(journal, where, looked_at), ends)
    told: Counts = [Counter() for _ in edges[1:]]
    for number, (low, high) in enumerate(pairwise(edges)):
        size = sizes[number // step]
        if size:
            count = found[number // step]
            told[number].update({status: round(times * (high - low) / size) for status, times in count.items()})
    return told


def _spread(journal: Journal, where: JournalFilter, edges: Sequence[int], sizes: Sequence[int]) -> list[int]:
    return [
        low + 1 + (high - low) * number // size
        for size, (low, high) in zip(sizes, pairwise(edges), strict=True)
        for number in range(size)
    ]


def _side_by_side(journal: Journal, where: JournalFilter, edges: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Those in the middle of each bucket that have touched what is asked for."""
    assert where.touching is not None
    table, *key = where.touching
    begins = [low + (high - low - size) // 2 for size, (low, high) in zip(sizes, pairwise(edges), strict=True)]
    pieces = [(begin, begin + size) for begin, size in zip(begins, sizes, strict=True) if size]
    return journal.teller.needed().positions_in(table, key, pieces, max(sizes) * _IMAGES)
