"""What is given to a Backend to be written: a record, or a statement that runs with one. Made by the gateway."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from actionbus.core.storage.table import FORMAT
from actionbus.core.values.record import Kind, Status


class Row(NamedTuple):
    """A record about to be appended; the columns that the database fills in are not here."""

    action_id: UUID
    kind: Kind
    action: str
    correlation_id: str
    status: Status | None = None
    handler_version: int | None = None
    actor: str | None = None
    cause_id: UUID | None = None
    idempotency_key: str | None = None
    started_at: datetime | None = None
    release: str | None = None
    context: str | None = None
    arguments: str | None = None
    result: str | None = None
    error: str | None = None
    calls: str | None = None
    seed: str | None = None
    seen: str | None = None
    duration_us: int | None = None
    format: int = FORMAT


class RecordPlace(NamedTuple):
    """Where a submitted record went, and the snapshot of the database it was written under."""

    position: int
    seen: str | None


class Statement(NamedTuple):
    """SQL with `?` for each value, to be run together with an outcome.

    `{schema}` in it stands for the journal's schema and a dot, or for nothing.
    """

    sql: str
    values: tuple[Any, ...]
