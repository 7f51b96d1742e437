"""Which actions overlapped: their outcomes lie before an action's, but its snapshot did not show them."""

from __future__ import annotations

from collections.abc import Iterable

from actionbus.core import Record
from actionbus.replay.history import Entry


def overlapping(entry: Entry, recent: Iterable[Record]) -> list[Record]:
    """The outcomes before this one that it could not see when it began, oldest first."""
    seen = entry.outcome.seen
    if seen is None:
        return []
    return [record for record in recent if record.status == "succeeded" and not is_visible(record, seen)]


def is_visible(record: Record, seen: str) -> bool:
    """Whether an outcome's transaction is in a snapshot: PostgreSQL's text form of one, or SQLite's last position."""
    if ":" not in seen:
        return record.position <= int(seen)
    low, high, running = seen.split(":")
    if record.xid is None:
        return True
    if record.xid < int(low):
        return True
    return record.xid < int(high) and str(record.xid) not in running.split(",")
