"""Which values there are to filter by, and how often, among the newest of the wanted records: a bounded window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, select

from actionbus.core.journal import Journal
from actionbus.core.storage.conditions import conditions_of
from actionbus.core.storage.table import journal_table
from actionbus.core.values.journal_filter import JournalFilter

FIELDS: Final = ("action", "status", "actor", "release")
LOOKED_AT: Final = 10_000
"""Records of which values are counted."""
MOST_VALUES: Final = 100


@dataclass(frozen=True)
class Facets:
    """By field, its most frequent values and how many of the wanted records have each; None where there is no value."""

    counts: dict[str, list[tuple[str | None, int]]]
    low: int
    high: int
    """Records beyond `low` up to `high` were looked at."""


def facets(journal: Journal, where: JournalFilter) -> Facets:
    """Of the newest records; what they touched is not asked."""
    settled = journal.settled()
    low, upto = journal.between(where, 0, settled)
    high = settled if upto is None else min(settled, upto)
    return journal.backend.read(lambda connection: _counted(connection, journal, where, min(low, high), high))


def _counted(connection: Connection, journal: Journal, where: JournalFilter, low: int, high: int) -> Facets:
    table = journal_table(journal.backend.schema)
    position = table.c.position
    near = select(table).where(position > low, position <= high).order_by(position.desc()).limit(LOOKED_AT).subquery()
    counts: dict[str, list[tuple[str | None, int]]] = {}
    for name in FIELDS:
        column: Any = near.c[name]
        grouped = select(column, func.count()).where(*conditions_of(where, near, journal.backend.comparable))
        ordered = grouped.group_by(column).order_by(func.count().desc(), column).limit(MOST_VALUES)
        counts[name] = [(value, count) for value, count in connection.execute(ordered)]
    looked_at = select(position).where(position > low, position <= high).order_by(position.desc()).limit(LOOKED_AT)
    count, least = connection.execute(select(func.count(), func.min(looked_at.subquery().c.position))).one()
    return Facets(counts, least - 1 if count == LOOKED_AT else low, high)
