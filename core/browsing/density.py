"""How much happened when: counts in buckets over a range of time, failures among them. At bounded cost, however many.

The ends of the buckets are found by halving over positions. In a short range records are counted one by one. In a long
one positions are taken for records, of which there are at most so many, and what did not succeed is counted by its
index, in each bucket up to a limit. So a year costs as much as a day. What a filter wants: `narrowed_density`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, select, text

from actionbus.core.browsing.narrowed_density import counted
from actionbus.core.journal import Journal
from actionbus.core.storage.conditions import aware
from actionbus.core.storage.moments import numbers
from actionbus.core.storage.names import in_text
from actionbus.core.storage.table import journal_table
from actionbus.core.values import payload
from actionbus.core.values.journal_filter import EVERYTHING, JournalFilter
from actionbus.core.values.record import STATUSES

MOST_BUCKETS: Final = 400
COUNTED: Final = 20_000
"""Records that are counted one by one."""
_NOTICED: Final = 500
"""Of one status in one bucket so many are counted."""
_UNSUCCESSFUL: Final = [each for each in STATUSES if each != "succeeded"]
_FAILURES: Final = """SELECT b.number, (SELECT count(*) FROM (SELECT 1 FROM {journal} j WHERE j.status <> 'succeeded'
    AND {within} LIMIT :most) found)
    FROM {buckets} b"""
_WITHIN: Final = {
    "postgresql": "(j.status, j.position) > (:status, b.low) AND (j.status, j.position) <= (:status, b.high)",
    "sqlite": "j.status = :status AND j.position > b.low AND j.position <= b.high",
}
"""How each goes along the index; `storage.conditions.keyset` says why."""


@dataclass
class Bucket:
    """What was recorded from one moment until another."""

    since: datetime
    until: datetime
    records: int
    """All kinds of them; at most so many where they were not counted."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Outcomes by status; where records were not counted, of what did not succeed, and at least so many."""


@dataclass(frozen=True)
class Density:
    """What happened when: buckets, in their order."""

    buckets: list[Bucket]
    is_exact: bool
    limit: int = _NOTICED
    """Up to which outcomes of one status are counted in one bucket, where it is not exact."""
    estimated_from: int | None = None
    """Where counts are estimates, from how many records of each bucket."""
    counted_beyond: int | None = None
    """Where they are, records beyond this position were counted all the same."""


def density(journal: Journal, where: JournalFilter, buckets: int) -> Density:
    """Of a range of time; from the first record to the last one where no time is given. Of all records, unless the
    filter wants some more than others.
    """
    since, until = where.since, where.until
    backend, end = journal.backend, journal.settled()
    ends = backend.read(lambda connection: _ends(connection, journal, end))
    if ends is None and (since is None or until is None):
        return Density([], is_exact=True)
    first = aware(since) if since is not None else ends[0]  # type: ignore[index]
    last = aware(until) if until is not None else ends[1] + timedelta(microseconds=1)  # type: ignore[index]
    if last <= first:
        return Density([], is_exact=True)
    width = (last - first) / buckets
    moments = [first + width * number for number in range(buckets)] + [last]
    positions = [min(each, end) for each in journal.positions_at(moments)]
    found = [
        Bucket(moments[number], moments[number + 1], positions[number + 1] - positions[number])
        for number in range(buckets)
    ]
    if replace(where, since=None, until=None) != EVERYTHING:
        return _narrowed(journal, where, positions, found)
    is_exact = positions[-1] - positions[0] <= COUNTED
    count = _count_each if is_exact else _count_failures
    backend.read(lambda connection: count(connection, journal, positions, found))
    return Density(found, is_exact)


def _narrowed(journal: Journal, where: JournalFilter, positions: Sequence[int], buckets: list[Bucket]) -> Density:
    found = counted(journal, where, positions, COUNTED)
    for bucket, count in zip(buckets, found.counts, strict=True):
        bucket.records = sum(count.values())
        bucket.statuses = {status: number for status, number in count.items() if status is not None and number}
    size, beyond = found.estimated_from, found.counted_beyond
    return Density(buckets, is_exact=size is None, estimated_from=size, counted_beyond=beyond)


def _ends(connection: Connection, journal: Journal, end: int) -> tuple[datetime, datetime] | None:
    table = journal_table(journal.backend.schema)
    recorded = select(table.c.recorded_at).where(table.c.position <= end)
    first = connection.execute(recorded.order_by(table.c.position).limit(1)).scalar()
    last = connection.execute(recorded.order_by(table.c.position.desc()).limit(1)).scalar()
    return None if first is None or last is None else (aware(first), aware(last))


def _count_each(connection: Connection, journal: Journal, positions: Sequence[int], buckets: list[Bucket]) -> None:
    c = journal_table(journal.backend.schema).c
    chosen = select(c.position, c.status).where(c.position > positions[0], c.position <= positions[-1])
    for each in buckets:
        each.records, each.statuses = 0, {}
    for position, status in connection.execute(chosen):
        bucket = buckets[bisect_left(positions, position) - 1]
        bucket.records += 1
        if status is not None:
            bucket.statuses[status] = bucket.statuses.get(status, 0) + 1


def _count_failures(connection: Connection, journal: Journal, positions: Sequence[int], buckets: list[Bucket]) -> None:
    ranges = [[number, positions[number], positions[number + 1]] for number in range(len(buckets))]
    source = numbers(journal.dialect, "ranges", "number", "low", "high")
    found = {"journal": in_text(journal.backend.journal_name), "buckets": source, "within": _WITHIN[journal.dialect]}
    sql = text(_FAILURES.format(**found))
    for status in _UNSUCCESSFUL:
        given: dict[str, Any] = {"ranges": payload.dumps(ranges), "status": status, "most": _NOTICED}
        for number, count in connection.execute(sql, given):
            if count:
                buckets[number].statuses[status] = count
