"""SQLite's INSERTs, one for each kind of record, and a row as they take it. Used by `storage.sqlite`."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

from actionbus.core.storage.rows import Row
from actionbus.core.storage.sqlite_images import COVERED, LAST

SUBMITTED: Final = (
    "action_id",
    "cause_id",
    "action",
    "correlation_id",
    "handler_version",
    "actor",
    "idempotency_key",
    "release",
    "context",
    "arguments",
    "seed",
    "format",
)
"""What a submitted record has; all else is NULL."""
OUTCOME: Final = (
    "action_id",
    "cause_id",
    "started_at",
    "status",
    "action",
    "correlation_id",
    "handler_version",
    "actor",
    "release",
    "arguments",
    "result",
    "error",
    "calls",
    "seen",
    "duration_us",
    "format",
)
"""What an outcome has, but for its images."""


def _inserting(kind: str, columns: Sequence[str], *images: str) -> str:
    names = ["kind", *columns, *("images_after", "images_upto")[: len(images)]]
    values = [f"'{kind}'", *"?" * len(columns), *images]
    return f"INSERT INTO main.journal ({', '.join(names)}) VALUES ({', '.join(values)})"


SUBMIT: Final = _inserting("submitted", SUBMITTED)
OWN: Final = _inserting("outcome", OUTCOME, "?", f"({LAST})")
"""An action's own outcome: after the image whose number follows the row, up to the last one that there is."""
NESTED: Final = _inserting("outcome", OUTCOME, "?", "?")
"""A nested action's: the two numbers follow the row."""
ALONE: Final = _inserting("outcome", OUTCOME, COVERED, COVERED)
"""One in a transaction in which no action ran, and so without images."""


def _reading(columns: Sequence[str]) -> itemgetter[Any]:
    return itemgetter(*map(Row._fields.index, columns))


_submitted, _outcome = _reading(SUBMITTED), _reading(OUTCOME)


def values_of(row: Row) -> list[Any]:
    """A row as the statement of its kind takes it."""
    if row.kind == "submitted":
        values = [*_submitted(row)]
    else:
        values = [*_outcome(row)]
        if row.started_at is not None:
            values[2] = row.started_at.replace(tzinfo=None).isoformat(" ", "microseconds")
    values[0] = row.action_id.hex
    if row.cause_id is not None:
        values[1] = row.cause_id.hex
    return values
