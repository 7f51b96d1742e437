"""Stand-ins for what was never recorded: values of the right type that never were secret. Used by the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, get_args, get_origin
from uuid import UUID

from sqlalchemy import Column, Dialect, Table

from actionbus.core.declare.registry import Action
from actionbus.replay.sandbox.playback import PlayedWorld

StandInValue = Callable[[int], Any]
"""Given how many there were before, what to store in a column."""


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
        int: 10**8 + number % 10**8,
        float: 10**8 + (number % 10**8) / 8,
        bool: bool(number % 2),
        Decimal: str(Decimal(number % 10**8) / 100),
        UUID: str(UUID(bytes=drawn * 2)),
        list: [],
        datetime: datetime(2000, 1, 1, tzinfo=UTC).isoformat(),
        date: date(2000, 1, 1).isoformat(),
        time: time(0, 0).isoformat(),
        timedelta: timedelta(seconds=number % 1000).total_seconds(),
    }
    return made.get(kind, f"stand-in-{drawn.hex()}") if isinstance(kind, type) else f"stand-in-{drawn.hex()}"


def values_needed(table: Table, dialect: Dialect) -> dict[str, StandInValue]:
    """For each column that must have a value and has no default of the database's: what makes one."""
    return {
        column.name: _value_of(column, dialect)
        for column in table.columns
        if not column.nullable and column.server_default is None and column.identity is None and column.computed is None
    }


def holds_default(column: Column[Any], value: Any, dialect: Dialect) -> bool:
    """Whether this is what a column holds where nobody gives a value; of what is made anew each time, anything is."""
    if column.default is not None and column.default.is_scalar:
        given = column.default.arg  # type: ignore[attr-defined]
        return any(_reads_as(value, each) for each in (given, _bound(column, dialect, given)))
    if column.default is not None or column.identity is not None or column.computed is not None:
        return True
    if column.server_default is None:
        return value is None
    told = getattr(column.server_default, "arg", None)
    text = "" if told is None else str(told)
    if not text or "(" in text or "CURRENT" in text.upper():
        return True
    return _reads_as(value, text.split("::")[0].strip("'"))


def _reads_as(value: Any, default: Any) -> bool:
    texts = {str(default).lower(), str(default.name).lower() if isinstance(default, Enum) else str(default).lower()}
    alike = {"true": "1", "false": "0"}
    return bool(value == default) or str(value).lower() in texts | {alike.get(each, each) for each in texts}


def _value_of(column: Column[Any], dialect: Dialect) -> StandInValue:
    if column.default is not None and column.default.is_scalar:
        given = column.default.arg  # type: ignore[attr-defined]
        return lambda _: _bound(column, dialect, given)
    try:
        kind = column.type.python_type
    except NotImplementedError:
        kind = str
    length = getattr(column.type, "length", None)
    return lambda number: _bound(column, dialect, _made(kind, number, length))


def _made(kind: type, number: int, length: int | None) -> Any:
    made: dict[type, Any] = {
        int: number,
        float: float(number),
        bool: False,
        Decimal: Decimal(number),
        UUID: UUID(int=number),
        datetime: datetime(2000, 1, 1, tzinfo=UTC),
        date: date(2000, 1, 1),
        time: time(0, 0),
        timedelta: timedelta(seconds=number),
        dict: {},
        list: [],
        bytes: str(number).encode(),
    }
    return made[kind] if kind in made else f"{number} stand-in"[:length]


def _bound(column: Column[Any], dialect: Dialect, value: Any) -> Any:
    """As the driver would send it; on PostgreSQL as a text, which is cast to the column's type."""
    if dialect.name == "postgresql" and isinstance(value, (bytes, dict, list)):
        return "\\x" + value.hex() if isinstance(value, bytes) else "{}"
    bind = column.type.dialect_impl(dialect).bind_processor(dialect)
    made = value if bind is None else bind(value)
    return str(made) if dialect.name == "postgresql" else made
