"""Which images belong to which record on SQLite: those between two numbers. Used by `storage.sqlite`.

There is one writer, so that the numbers drawn from BEGIN IMMEDIATE to the outcome are the action's, and those which no
record covers by then were drawn by somebody who wrote past the gateway, and has ended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final
from uuid import UUID, uuid4

from actionbus.core.storage.history_ddl import IMAGES
from actionbus.core.values.payload import dumps

RANGES: Final = "actionbus.images"
"""Where a connection's `info` holds which images are whose in the transaction that is open."""
COVERED: Final = """coalesce((SELECT images_upto FROM main.journal WHERE images_upto IS NOT NULL
    ORDER BY position DESC LIMIT 1), 0)"""
"""The last image that has a record."""
LAST: Final = f"SELECT coalesce((SELECT seq FROM main.sqlite_sequence WHERE name = '{IMAGES}'), 0)"
"""The last image's number, as AUTOINCREMENT has it: the image itself may be archived, and `images_upto` never falls."""
_BEFORE: Final = f"SELECT ({LAST}), {COVERED}, (SELECT coalesce(max(position), 0) FROM main.journal)"
_TIME: Final = f"SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', at) FROM main.{IMAGES} WHERE image"
_BYPASS: Final = """INSERT INTO main.journal
    (action_id, kind, action, correlation_id, context, images_after, images_upto)
    VALUES (?, 'bypass', '', ?, ?, ?, ?)"""


class Ranges:
    """The images of one transaction of ours: what was there before it, and what its nested actions drew.

    `position` is that of the last record before it.
    """

    def __init__(self, dbapi: Any) -> None:
        self.before, self._covered, self.position = _row(dbapi, _BEFORE)
        self._nested: dict[UUID, tuple[int, int]] = {}

    def enter(self, dbapi: Any, action_id: UUID) -> None:
        """A nested action begins; until it has ended well, it has no images."""
        last = last_image(dbapi)
        self._nested[action_id] = last, last

    def leave(self, dbapi: Any, action_id: UUID) -> None:
        """A nested action has succeeded."""
        self._nested[action_id] = self._nested[action_id][0], last_image(dbapi)

    def of(self, action_id: UUID, status: str | None) -> tuple[int, int]:
        """After which image those of a nested action begin, and the last of them."""
        after, upto = self._nested.get(action_id, (self.before, self.before))
        # What was rolled back with a savepoint later left its numbers to others.
        return (after, upto) if status == "succeeded" else (self.before, self.before)

    def owner(self, image: int, succeeded: Collection[UUID]) -> UUID | None:
        """Of these nested actions the innermost one that drew an image; None if it was the outermost action itself."""
        inside = [
            (upto - after, action_id)
            for action_id, (after, upto) in self._nested.items()
            if action_id in succeeded and after < image <= upto
        ]
        return min(inside)[1] if inside else None

    def append_bypass(self, dbapi: Any) -> None:
        """Append the record of who wrote past the gateway, if somebody did."""
        if self.before > self._covered:
            append_bypass(dbapi, self._covered, self.before)


def key_part(value: str) -> str:
    """SQL of one of several columns' values in a key's text; `quote` ends a text at NUL."""
    has_nul = f"typeof({value}) = 'text' AND instr({value}, char(0))"
    return f"CASE WHEN {has_nul} THEN 'x' || hex({value}) ELSE quote({value}) END"


def last_image(dbapi: Any) -> int:
    """The number of the last image; 0 while there is none."""
    return int(_row(dbapi, LAST)[0])


def cover(dbapi: Any) -> None:
    """Append the record of images that have none. In a transaction that holds the write lock."""
    Ranges(dbapi).append_bypass(dbapi)


def append_bypass(dbapi: Any, after: int, upto: int, context: Mapping[str, Any] | None = None) -> None:
    """Append a record for the images in a range, of whose writer nothing is known but when he wrote."""
    own = uuid4()
    first = _row(dbapi, f"{_TIME} > ? ORDER BY image LIMIT 1", after)[0]
    last = _row(dbapi, f"{_TIME} <= ? ORDER BY image DESC LIMIT 1", upto)[0]
    told = dumps({**(context or {}), "from": first, "to": last})
    dbapi.execute(_BYPASS, (own.hex, str(own), told, after, upto))


def _row(dbapi: Any, sql: str, *values: Any) -> Any:
    cursor = dbapi.cursor()
    cursor.row_factory = None  # a handler may have set one
    return cursor.execute(sql, values).fetchone()
