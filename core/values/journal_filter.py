"""Which records are wanted: what `Journal.read` narrows by, and what the command line and HTTP ask for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, TypedDict

from actionbus.core.values.identifiers import AnyId
from actionbus.core.values.public import public
from actionbus.core.values.record import Kind, Status

Touching = tuple[str, *tuple[Any, ...]]
"""A table, or a row of one by its key."""
ANY_TABLE: Final = "*"
"""In place of a table: whichever."""


@public
@dataclass(frozen=True, slots=True)
class Excluded:
    """Values of which a record has none. An empty text stands for a record without a value: nobody's, of no release."""

    action: Collection[str] = ()
    actor: Collection[str] = ()
    status: Collection[str] = ()
    kind: Collection[str] = ()
    release: Collection[str] = ()
    correlation_id: Collection[str] = ()

    def given(self) -> dict[str, Collection[str]]:
        """Those that exclude anything."""
        return {each.name: found for each in fields(self) if (found := getattr(self, each.name))}


NOTHING_EXCLUDED: Final = Excluded()


class Filters(TypedDict, total=False):
    """The fields of a JournalFilter, as keywords."""

    action: str | Collection[str] | None
    actor: str | Collection[str] | None
    status: Status | Collection[Status] | None
    kind: Kind | Collection[Kind] | None
    since: datetime | None
    until: datetime | None
    correlation_id: str | Collection[str] | None
    cause_id: AnyId | None
    touching: Touching | None
    release: str | Collection[str] | None
    excluded: Excluded
    text: str | None


@public
@dataclass(frozen=True, slots=True)
class JournalFilter:
    """Narrows records to those that meet all that is given.

    `action` is a name or several, and so are `actor`, `status`, `kind`, `release` and `correlation_id`; an empty text
    stands for a record without a value. `since` (inclusive) and `until` (exclusive) are compared with `recorded_at`,
    naive times are UTC; `touching` is `("kits",)` for a table or `("kits", key)` for a row.
    `text` are words that must all be somewhere in the arguments, the result or the error, as parts of words too, in
    capitals or not (of letters of ASCII); what is encrypted has none, nor what is longer than 100 kB as it is stored.
    """

    action: str | Collection[str] | None = None
    actor: str | Collection[str] | None = None
    status: Status | Collection[Status] | None = None
    kind: Kind | Collection[Kind] | None = None
    since: datetime | None = None
    until: datetime | None = None
    correlation_id: str | Collection[str] | None = None
    cause_id: AnyId | None = None
    touching: Touching | None = None
    release: str | Collection[str] | None = None
    excluded: Excluded = NOTHING_EXCLUDED
    text: str | None = None

    def one(self, name: str) -> str | None:
        """The value of a field that is narrowed to a single one, or None."""
        found = getattr(self, name)
        values = [found] if isinstance(found, str) else list(found or ())
        return str(values[0]) if len(values) == 1 else None


EVERYTHING: Final = JournalFilter()
