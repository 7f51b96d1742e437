"""Which values there are to filter by, and how often, among the newest of the wanted records: a bounded window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import CTE, Connection, Select, Text, cast, func, literal, select, union_all

from actionbus.core.browsing.narrowed_density import PLACE, places
from actionbus.core.journal import Journal
from actionbus.core.storage.conditions import conditions_of
from actionbus.core.storage.table import journal_table
from actionbus.core.values.journal_filter import JournalFilter

FIELDS: Final = ("action", "status", "actor", "release")
LOOKED_AT: Final = 10_000
"""Records of which values are counted."""
_CHANGES: Final = 20_000
"""Changes that are looked at, where records are to have touched something."""
MOST_VALUES: Final = 100


@dataclass(frozen=True)
class Facets:
    """By field, its most frequent values and how many of the wanted records have each; None where there is no value."""

    counts: dict[str, list[tuple[str | None, int]]]
    low: int
    high: int
    """Records beyond `low` up to `high` were looked at."""


def facets(journal: Journal, where: JournalFilter) -> Facets:
    """Of the newest records."""
    settled = journal.settled()
    low, upto = journal.between(where, 0, settled)
    high = settled if upto is None else min(settled, upto)
    low = journal.backend.read(lambda connection: _begin_of_newest(connection, journal, min(low, high), high))
    touched = None
    if where.touching is not None:
        table, *key = where.touching
        touched = journal.teller.needed().positions_in(table, key, [(low, high)], _CHANGES)
    counts = journal.backend.read(lambda connection: _counted(connection, journal, where, low, high, touched))
    return Facets(counts, low, high)


def _begin_of_newest(connection: Connection, journal: Journal, low: int, high: int) -> int:
    """Beyond which position so many records come, up to the end of a range."""
    position = journal_table(journal.backend.schema).c.position
    near = select(position).where(position > low, position <= high).order_by(position.desc()).limit(LOOKED_AT)
    count, least = connection.execute(select(func.count(), func.min(near.subquery().c.position))).one()
    return least - 1 if count == LOOKED_AT else low


def _counted(
    connection: Connection, journal: Journal, where: JournalFilter, low: int, high: int, touched: list[int] | None
) -> dict[str, list[tuple[str | None, int]]]:
    """By one statement, so that each record is looked at once."""
    table = journal_table(journal.backend.schema)
    position = table.c.position
    wanted = select(*(cast(table.c[name], Text).label(name) for name in FIELDS))
    wanted = wanted.where(position > low, position <= high, *conditions_of(where, table, journal.backend.comparable))
    if touched is not None:
        wanted = wanted.where(position.in_(select(PLACE).select_from(places(journal, touched))))
    found = wanted.cte("wanted")
    each_field = [_of_field(found, name) for name in FIELDS]
    counts: dict[str, list[tuple[str | None, int]]] = {name: [] for name in FIELDS}
    for name, value, count in connection.execute(union_all(*each_field)):
        counts[name].append((value, count))
    return counts


def _of_field(found: CTE, name: str) -> Select[Any]:
    column, many = found.c[name], func.count()
    grouped = select(literal(name).label("name"), column.label("value"), many.label("many")).group_by(column)
    return select(grouped.order_by(many.desc(), column).limit(MOST_VALUES).subquery())
