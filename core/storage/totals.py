"""Counts of the whole journal, kept up to a mark: only what came since is counted. Used by `core.journal`.

The journal is append-only and what is settled stays, so a sum up to a settled position is true for good. Whoever asks
adds what came since and, where that is much and he may, moves the mark. No action pays for it, and nobody has to keep
anything running. Of several who move it at once one does: the mark is changed from the position that was read, and in
the transaction that changes the sums.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError

from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.storage.table import journal_table
from actionbus.core.values.details import ActionCount

log = logging.getLogger("actionbus")
_NAME: Final = "totals"
MANY: Final = 10_000
"""Positions since the mark, beyond which it is moved."""
_READ: Final = """SELECT m.position, t.kind, t.action, t.status, t.records, t.timed, t.duration_us
    FROM {prefix}actionbus_marks m LEFT JOIN {prefix}actionbus_totals t ON 1 = 1 WHERE m.name = :name"""
"""Mark and sums in one snapshot: they change together. A mark says how far what is kept is true of the journal."""
_MOVE: Final = "UPDATE {prefix}actionbus_marks SET position = :end WHERE name = :name AND position = :mark"
_ADD: Final = """INSERT INTO {prefix}actionbus_totals (kind, action, status, records, timed, duration_us)
    VALUES (:kind, :action, :status, :records, :timed, :duration_us) ON CONFLICT (kind, action, status) DO UPDATE SET
    records = {prefix}actionbus_totals.records + excluded.records,
    timed = {prefix}actionbus_totals.timed + excluded.timed,
    duration_us = {prefix}actionbus_totals.duration_us + excluded.duration_us"""


class Total(NamedTuple):
    """Records of one kind, action and status, an empty text for none; how many have a duration, and their sum."""

    kind: str
    action: str
    status: str
    records: int
    timed: int
    duration_us: int


def mark_of(connection: Connection, backend: Backend, name: str) -> int:
    """How far something is true of the journal."""
    found = text(f"SELECT position FROM {in_text(backend.prefix)}actionbus_marks WHERE name = :name")
    return int(connection.execute(found, {"name": name}).scalar_one())


def totals(backend: Backend, end: int) -> list[Total]:
    """Of all records up to a settled position."""
    mark, known = backend.read(lambda connection: _known(connection, backend))
    if end < mark:  # an older database was put in the place of this one's tables; they count for nothing
        return _counted_upto(backend, 0, end)
    fresh = _counted_upto(backend, mark, end)
    if end - mark > MANY:
        _keep(backend, mark, end, fresh)
    return _sum([*known, *fresh])


def move_mark(connection: Connection, backend: Backend, name: str, mark: int, end: int) -> bool:
    """Move a mark from where it was read to be, in the connection's transaction; False if somebody else has."""
    moving = text(_MOVE.format(prefix=in_text(backend.prefix)))
    return connection.execute(moving, {"name": name, "mark": mark, "end": end}).rowcount > 0


def keep_totals(connection: Connection, backend: Backend, end: int) -> None:
    """Move the mark to a settled position, in the connection's transaction: records up to there may go then."""
    mark = mark_of(connection, backend, _NAME)
    if mark < end and move_mark(connection, backend, _NAME, mark, end):
        fresh = _counted(connection, backend, mark, end)
        if fresh:
            connection.execute(text(_ADD.format(prefix=in_text(backend.prefix))), [each._asdict() for each in fresh])


def _known(connection: Connection, backend: Backend) -> tuple[int, list[Total]]:
    rows = connection.execute(text(_READ.format(prefix=in_text(backend.prefix))), {"name": _NAME}).all()
    return rows[0][0], [Total(*row[1:]) for row in rows if row[1] is not None]


def _counted_upto(backend: Backend, low: int, high: int) -> list[Total]:
    return backend.read(lambda connection: _counted(connection, backend, low, high))


def _counted(connection: Connection, backend: Backend, low: int, high: int) -> list[Total]:
    c = journal_table(backend.schema).c
    status = func.coalesce(c.status, "")
    duration = func.coalesce(func.sum(c.duration_us), 0)
    grouped = select(c.kind, c.action, status, func.count(), func.count(c.duration_us), duration)
    grouped = grouped.where(c.position > low, c.position <= high).group_by(c.kind, c.action, status)
    rows = connection.execute(grouped).all()
    return [Total(kind, action, state, number, timed, int(took)) for kind, action, state, number, timed, took in rows]


def _keep(backend: Backend, mark: int, end: int, fresh: list[Total]) -> None:
    """Move the mark, unless somebody else has, or this user may only read."""
    prefix = in_text(backend.prefix)
    try:
        with backend.engine.begin() as connection:
            if move_mark(connection, backend, _NAME, mark, end) and fresh:
                connection.execute(text(_ADD.format(prefix=prefix)), [each._asdict() for each in fresh])
    except DBAPIError as error:
        log.debug("the journal's totals were not kept: %s", type(error.orig).__name__)


def _sum(parts: list[Total]) -> list[Total]:
    found: dict[tuple[str, str, str], Total] = {}
    for each in parts:
        known = found.get(each[:3])
        found[each[:3]] = (
            each if known is None else Total(*each[:3], *(a + b for a, b in zip(each[3:], known[3:], strict=True)))
        )
    return sorted(found.values())


def told(parts: list[Total]) -> list[ActionCount]:
    """Outcomes by action and status, with their mean duration."""
    return [
        {
            "action": each.action,
            "status": each.status,
            "count": each.records,
            "mean_ms": round(each.duration_us / each.timed / 1000, 2) if each.timed else 0.0,
        }
        for each in parts
        if each.kind == "outcome"
    ]
