"""So many records beside one end of a range, and those of them that are wanted. Used by `core.journal`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, Table, func, select

from actionbus.core.storage.conditions import conditions_of
from actionbus.core.storage.row_decoding import columns_to_read
from actionbus.core.values.journal_filter import JournalFilter
from actionbus.core.values.record import Record


class Window(NamedTuple):
    """Some records beside each other, and how far was looked for them."""

    records: list[Record]
    reached: int
    """All wanted records between the end that was begun with and here are among these."""
    is_all: bool
    """Whether the range was looked through to its other end."""


def near(
    journal: Table,
    low: int,
    high: int,
    where: JournalFilter,
    limit: int,
    most: int,
    newest_first: bool,
    brief: int | None,
    comparable: Callable[[datetime], datetime],
) -> tuple[Select[Any], Select[int, Any]]:
    """What reads the wanted ones of the `most` records next to one end; and how many there are, and the last one."""
    position = journal.c.position
    order = position.desc() if newest_first else position
    there = select(journal).where(position > low, position <= high).order_by(order).limit(most).subquery()
    outer = there.c.position.desc() if newest_first else there.c.position
    conditions = conditions_of(where, there, comparable)
    wanted = select(*columns_to_read(there, brief=brief)).where(*conditions).order_by(outer).limit(limit)
    edge = func.min if newest_first else func.max
    looked_at = select(position).where(position > low, position <= high).order_by(order).limit(most).subquery()
    return wanted, select(func.count(), edge(looked_at.c.position))
