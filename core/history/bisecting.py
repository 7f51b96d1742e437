"""The first position at which a query holds, asked of copies of tables as they were. Used by `core.history.history`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from actionbus.core.errors import HistoryError
from actionbus.core.history.copies import Copy, OnSQLite
from actionbus.core.history.copies_postgresql import OnPostgreSQL
from actionbus.core.history.opened import OpenedPosition
from actionbus.core.history.recorded import RecordedTable
from actionbus.core.storage.archives import Archive


@contextmanager
def copy_of(high: OpenedPosition, tables: Sequence[RecordedTable]) -> Iterator[Copy]:
    """Copies of these tables, in the database's own kind, for positions up to a high one."""
    is_postgresql = high.images.connection.dialect.name == "postgresql"
    copy = OnPostgreSQL(high, tables) if is_postgresql else OnSQLite(high, tables)
    try:
        copy.create()
        yield copy
    finally:
        copy.close()


def first_true(low: int, high: int, check: Callable[[int], bool], went: Archive | None) -> tuple[int | None, int, str]:
    """The first position beyond `low` at which `check` holds, how often it was asked, and what to know of it.

    Between two records nothing changes, so that the first position found is that of a record.
    """
    if check(low):
        then = went.where() if went is not None and went.upto >= low else "begin earlier"
        raise HistoryError(f"the query is true at position {low} already, where the search begins; {then}")
    if not check(high):
        return None, 2, "the query is not true at the end; if it was true for a while, end the search earlier"
    checks = 2
    while high - low > 1:
        middle = (low + high) // 2
        checks += 1
        low, high = (low, middle) if check(middle) else (middle, high)
    return high, checks, ""
