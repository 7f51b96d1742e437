"""Submitted records whose action has no outcome, without reading all of history. Used by `core.journal`, for recovery.

Up to a mark it is written down which actions had none; beyond it the journal is asked. Up to a settled position no
record can appear any more, and an action that has its outcome keeps it: so what is written down may only be too much,
and each is looked up again. Whoever asks moves the mark where that is worth it, and he may; one of several does, as
for totals.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Uuid, column, insert, select, table, text
from sqlalchemy.exc import DBAPIError

from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.storage.records import Records
from actionbus.core.storage.totals import MANY, mark_of, move_mark
from actionbus.core.values.record import Record

log = logging.getLogger("actionbus")
UNFINISHED: Final = "actionbus_unfinished"
_NAME: Final = "unfinished"
_DONE: Final = """DELETE FROM {prefix}actionbus_unfinished WHERE EXISTS (SELECT 1 FROM {journal} o
    WHERE o.action_id = actionbus_unfinished.action_id AND o.kind = 'outcome')"""


def unfinished(records: Records, backend: Backend, settled: int, wanted: Sequence[ColumnElement[bool]]) -> list[Record]:
    """Those that meet the conditions, oldest first; settled or not."""
    mark = backend.read(lambda connection: mark_of(connection, backend, _NAME))
    if settled - mark > MANY:
        _keep(
            backend, mark, settled, records.fetch(_without_outcome(records).where(_beyond(records, mark)), opened=False)
        )
    # Two queries, since the two together would be planned as a walk through all of them.
    noted = records.table.c.action_id.in_(select(_kept(backend).c.action_id))
    old = records.fetch(_without_outcome(records).where(noted, ~_beyond(records, mark), *wanted))
    new = records.fetch(_without_outcome(records).where(_beyond(records, mark), *wanted))
    return sorted([*old, *new], key=lambda each: each.position)


def forget_finished(connection: Connection, backend: Backend) -> None:
    """Forget actions that have an outcome, in the connection's transaction: the record that says so may go then."""
    connection.execute(text(_DONE.format(prefix=in_text(backend.prefix), journal=in_text(backend.journal_name))))


def _beyond(records: Records, mark: int) -> ColumnElement[bool]:
    return records.table.c.position > mark


def _without_outcome(records: Records) -> Select[Any]:
    c, outcome = records.table.c, records.table.alias("outcome")
    has_outcome = select(outcome.c.position).where(outcome.c.action_id == c.action_id, outcome.c.kind == "outcome")
    return records.select().where(c.kind == "submitted", ~has_outcome.exists())


def _kept(backend: Backend) -> Any:
    return table(UNFINISHED, column("action_id", Uuid()), column("position"), schema=backend.schema)


def _keep(backend: Backend, mark: int, end: int, found: list[Record]) -> None:
    """Move the mark, unless somebody else has, or this user may only read."""
    new = [{"action_id": each.action_id, "position": each.position} for each in found if mark < each.position <= end]
    done = _DONE.format(prefix=in_text(backend.prefix), journal=in_text(backend.journal_name))
    try:
        with backend.engine.begin() as connection:
            if move_mark(connection, backend, _NAME, mark, end):
                connection.execute(text(done))
                if new:
                    connection.execute(insert(_kept(backend)), new)
    except DBAPIError as error:
        log.debug("what is unfinished was not kept: %s", type(error.orig).__name__)
