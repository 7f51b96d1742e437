"""The journal table in SQLAlchemy Core, for reading; `storage.ddl` creates it, `storage.backend` writes to it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Column, DateTime, Integer, SmallInteger, Table, Text, Uuid
from sqlalchemy.types import TypeEngine

from actionbus.core.storage.shared import shared_table

COLUMNS: Final = (
    "position",
    "action_id",
    "kind",
    "status",
    "action",
    "handler_version",
    "actor",
    "correlation_id",
    "cause_id",
    "idempotency_key",
    "recorded_at",
    "started_at",
    "release",
    "context",
    "arguments",
    "result",
    "error",
    "calls",
    "seed",
    "xid",
    "seen",
    "duration_us",
    "format",
)
"""All columns in their order, which is the order of a Record's fields but its last."""

PAYLOADS: Final = ("context", "arguments", "result", "error", "calls")
TIMES: Final = frozenset({"recorded_at", "started_at"})
FORMAT: Final = 1
"""What the payload columns look like; raised when that changes."""
SEALED: Final = 2
"""The same with personal values encrypted in them: see `secrecy.personal`."""

_TYPES: dict[str, TypeEngine[Any]] = {
    "position": BigInteger(),
    "action_id": Uuid(),
    "cause_id": Uuid(),
    "handler_version": Integer(),
    "xid": BigInteger(),
    "duration_us": BigInteger(),
    "format": SmallInteger(),
}


@cache
def journal_table(schema: str | None = None) -> Table:
    """The table as the database has it; made once, since nobody changes it."""
    return shared_table("journal", schema, *(_column(name) for name in COLUMNS))


@cache
def identity_table(schema: str | None = None) -> Table:
    """One row: the journal's identity. Made once, like all tables of ours: an engine compiles anew for every other."""
    return shared_table("actionbus_identity", schema, Column("identity", Text(), primary_key=True))


def _column(name: str) -> Column[Any]:
    if name in PAYLOADS:
        return Column(name, JSON())
    if name in TIMES:
        return Column(name, DateTime(timezone=True))
    return Column(name, _TYPES.get(name, Text()), primary_key=name == "position")
