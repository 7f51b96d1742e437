"""What names a point in history: read here, found in a journal by whoever asks (`core.history`, `replay.timeline`)."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

Point = int | datetime | UUID | None
"""A position, a time, an action's id; None is the end."""


def point_of(text: str) -> Point:
    """What a position, an ISO 8601 time (naive: UTC), an action's id, `start` or `end` means. Raises ValueError."""
    if text in ("start", "end"):
        return 0 if text == "start" else None
    if (position := position_of(text)) is not None:
        return position
    for read in (UUID, _moment):
        try:
            return read(text)
        except (ValueError, OverflowError):  # one that lies before or after all times in UTC cannot be compared
            pass
    raise ValueError(f"{text!r} is not a point in history; give a position, ISO 8601 time, action id, `start` or `end`")


def position_of(text: str) -> int | None:
    """The position that is meant, if one is; longer numbers no database has."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
