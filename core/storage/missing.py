"""Says what to do where the database has no journal; used by whatever reads or writes it."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError

NO_JOURNAL: Final = "the database has no journal; run `actionbus db upgrade`, or bus.journal.create()"
_UNDEFINED_TABLE: Final = "42P01"


def is_missing(error: BaseException) -> bool:
    """Whether a database's error says that the journal, or a table beside it, is not there."""
    original = error.orig if isinstance(error, DBAPIError) else error
    told = str(original)
    if getattr(original, "pgcode", None) == _UNDEFINED_TABLE:
        return "journal" in told or "actionbus_" in told
    return told.startswith(("no such table: main.journal", "no such table: main.actionbus_"))
