"""Which records are wanted: what `Journal.read` narrows by, and what the command line makes of its options."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypedDict

from actionbus.core.values.identifiers import AnyId
from actionbus.core.values.record import Kind, Status

Touching = tuple[str, *tuple[Any, ...]]
"""A table, or a row of one by its key."""


class Filters(TypedDict, total=False):
    """The fields of a JournalFilter, as keywords."""

    action: str | Collection[str] | None
    actor: str | None
    status: Status | None
    kind: Kind | Collection[Kind] | None
    since: datetime | None
    until: datetime | None
    correlation_id: str | None
    cause_id: AnyId | None
    touching: Touching | None


@dataclass(frozen=True, slots=True)
class JournalFilter:
    """Narrows records to those that meet all that is given.

    `action` is a name or several, `kind` likewise; `since` (inclusive) and `until` (exclusive) are compared with
    `recorded_at`, naive times are UTC; `touching` is `("kits",)` for a table or `("kits", key)` for a row.
    """

    action: str | Collection[str] | None = None
    actor: str | None = None
    status: Status | None = None
    kind: Kind | Collection[Kind] | None = None
    since: datetime | None = None
    until: datetime | None = None
    correlation_id: str | None = None
    cause_id: AnyId | None = None
    touching: Touching | None = None


EVERYTHING: Final = JournalFilter()
