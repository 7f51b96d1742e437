"""A row of the journal, as the driver gives it, becomes a Record. Used by `core.journal` and `core.reader`.

The driver's own cursor is read, past SQLAlchemy's rows and types: a reader of a long journal spends its time here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, Table, Text, cast

from core import payload
from core.record import Record
from core.table import COLUMNS, PAYLOADS

Decode = Callable[[Sequence[Any]], Record]


def columns_to_read(table: Table) -> Iterator[ColumnElement[Any]]:
    """All columns; payloads and ids as text, so that the driver does not decode them, which loses digits and time."""
    as_text = PAYLOADS | {"action_id", "cause_id"}
    return (cast(table.c[name], Text).label(name) if name in as_text else table.c[name] for name in COLUMNS)


def fetch(connection: Connection, statement: Select[Any]) -> list[Sequence[Any]]:
    """The rows of a statement over `columns_to_read`, as the driver has them."""
    with connection.execute(statement) as result:
        cursor = result.cursor
        return list(cursor.fetchall()) if cursor is not None else []


def decoder(dialect: str) -> Decode:
    """What makes a Record of a row."""
    loads = payload.loads
    utc = _utc_of_text if dialect == "sqlite" else _utc

    def decode(row: Sequence[Any]) -> Record:
        (position, action_id, kind, status, action, version, actor, correlation, cause, key, recorded, started, release,
         context, arguments, result, error, calls, touched, seed, xid, seen, duration, form) = row  # fmt: skip
        return Record(
            position, UUID(action_id), kind, status, action, version, actor, correlation,
            UUID(cause) if cause else None, key, utc(recorded), utc(started) if started else None, release,
            loads(context) if context else None, loads(arguments) if arguments else {},
            loads(result) if result else None, loads(error) if error else None, loads(calls) if calls else None,
            loads(touched) if touched else None, seed, xid, seen, duration, form,
        )  # fmt: skip

    return decode


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _utc_of_text(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
