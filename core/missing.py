"""Says what to do where the database has no journal; used by whatever reads or writes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError

from core.errors import JournalUnavailable

NO_JOURNAL: Final = "the database has no journal; run `actionbus db upgrade`, or bus.journal.create()"
_UNDEFINED_TABLE: Final = "42P01"


def is_missing(error: BaseException) -> bool:
    """Whether a database's error says that the journal, or a table beside it, is not there."""
    original = error.orig if isinstance(error, DBAPIError) else error
    told = str(original)
    if getattr(original, "pgcode", None) == _UNDEFINED_TABLE:
        return "journal" in told or "actionbus_" in told
    return told.startswith(("no such table: journal", "no such table: actionbus_"))


@contextmanager
def missing_told() -> Iterator[None]:
    """Around a read of the journal: raises JournalUnavailable that says what to do, if it is not there."""
    try:
        yield
    except DBAPIError as error:
        if is_missing(error):
            raise JournalUnavailable(NO_JOURNAL) from error
        raise
