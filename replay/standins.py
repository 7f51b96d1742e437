"""Stand-ins for arguments that were redacted: values of the right type that never were secret. Used by the sandbox."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, get_args, get_origin
from uuid import UUID

from actionbus.core.declare.registry import Action
from actionbus.replay.playback import PlayedWorld


def stand_in(action: Action, name: str, world: PlayedWorld) -> Any:
    """A value for a redacted argument; if validation refuses it, the action is unplayable, not divergent."""
    arg = action.handler.arguments.get(name)
    drawn = world.draw(8)
    if arg is None:
        return f"stand-in-{drawn.hex()}"
    if arg.options is not None:
        first = list(arg.options)[drawn[0] % len(list(arg.options))]
        return first.value if isinstance(first, Enum) else first
    made = _of_type(arg.type, drawn)
    return [made] if arg.many else made


def _of_type(kind: Any, drawn: bytes) -> Any:
    number = int.from_bytes(drawn, "big")
    if get_origin(kind) is list:
        return [_of_type((get_args(kind) or (str,))[0], drawn)]
    if get_origin(kind) is dict or kind is dict:
        return {}
    if isinstance(kind, type) and issubclass(kind, Enum):
        members = list(kind)
        return members[number % len(members)].name
    made = {
        int: 10**8 + number % 10**8, float: 10**8 + (number % 10**8) / 8, bool: bool(number % 2),
        Decimal: str(Decimal(number % 10**8) / 100), UUID: str(UUID(bytes=drawn * 2)), list: [],
        datetime: datetime(2000, 1, 1, tzinfo=UTC).isoformat(), date: date(2000, 1, 1).isoformat(),
        time: time(0, 0).isoformat(), timedelta: timedelta(seconds=number % 1000).total_seconds(),
    }  # fmt: skip
    return made.get(kind, f"stand-in-{drawn.hex()}") if isinstance(kind, type) else f"stand-in-{drawn.hex()}"
