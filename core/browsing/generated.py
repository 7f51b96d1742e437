"""Whether an action gave itself a value, by its clock or its ids, which what the journal keeps of it tells for ever."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final
from uuid import UUID

from actionbus.core.storage.conditions import aware
from actionbus.core.values.determinism import Ids
from actionbus.core.values.record import Record

DRAWN: Final = 1_000
"""So many ids are looked through."""
_DIGITS: Final = re.compile(r"[0-9a-f]{8,128}")
"""Of fewer, some are the same by chance."""


def generated(submitted: Record, outcome: Record, value: str) -> str | None:
    """What gave it: `clock.now()`, `ids.uuid()` or `ids.hex()`; None if none of them is known to have."""
    seed, instant = submitted.seed, outcome.started_at
    if seed is None or instant is None:
        return None
    if _moment(value) == aware(instant):
        return "clock.now()"
    if (wanted := _uuid(value)) is not None:
        ids = Ids(seed, instant)
        if any(ids.uuid() == wanted for _ in range(DRAWN)):
            return "ids.uuid()"
    if _DIGITS.fullmatch(value):
        ids = Ids(seed, instant)
        if any(ids.hex(len(value)) == value for _ in range(DRAWN)):
            return "ids.hex()"
    return None


def _moment(value: str) -> datetime | None:
    try:
        return aware(datetime.fromisoformat(value))
    except ValueError:
        return None


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None
