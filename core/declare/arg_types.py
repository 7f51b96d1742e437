"""How each Python type of an Arg is read from its JSON form: helpful, never lossy. Called by `declare.arg`.

Every field here raises ValidationError with a sentence that says what was expected; the value itself is not quoted,
since it may be sensitive or a megabyte long.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, get_args, get_origin
from uuid import UUID

from marshmallow import RAISE, Schema, ValidationError, fields

from actionbus.core.values import payload

_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<weeks>\d{1,9})W)?(?:(?P<days>\d{1,9})D)?"
    r"(?:T(?:(?P<hours>\d{1,12})H)?(?:(?P<minutes>\d{1,12})M)?(?:(?P<seconds>\d{1,15})(?:\.(?P<part>\d{1,6}))?S)?)?",
    re.ASCII,
)
_EXACT_IN_A_DOUBLE = 2**53


class ConvertingField(fields.Field[Any]):
    """A field that reads with a plain function raising ValueError. `kind` is the Python type it makes."""

    def __init__(self, kind: Any, convert: Callable[[Any], Any], **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind
        self._convert = convert

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        try:
            return self._convert(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


def field_for(kind: Any) -> fields.Field[Any]:
    """The field that reads `kind`. Raises TypeError for a type that an Arg cannot have."""
    if isinstance(kind, fields.Field):
        return copy.deepcopy(kind)
    if isinstance(kind, Schema) or (isinstance(kind, type) and issubclass(kind, Schema)):
        return fields.Nested(kind, unknown=RAISE)
    if kind in _READERS:
        return ConvertingField(kind, _READERS[kind])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ConvertingField(kind, _enum_reader(kind))
    origin, inner = get_origin(kind), get_args(kind)
    if kind is list or origin is list:
        item = field_for(inner[0]) if inner and inner[0] is not Any else fields.Raw(allow_none=True)
        return fields.List(item)
    if kind is dict or origin is dict:
        if inner and inner[0] is not str:
            raise TypeError("the keys of a dict are text in JSON; declare dict[str, …]")
        value = field_for(inner[1]) if inner and inner[1] is not Any else None
        return fields.Dict(keys=fields.String(), values=value)
    raise TypeError(
        f"{kind!r} is not a type an Arg can have; use {', '.join(t.__name__ for t in _READERS)}, an Enum, "
        "list[T], dict, a Marshmallow field or a Marshmallow Schema"
    )


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    raise ValueError("must be text")


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer() and abs(value) <= _EXACT_IN_A_DOUBLE:
        return int(value)
    if type(value) is str and _WHOLE.fullmatch(value.strip()):
        try:
            return int(value)
        except ValueError:
            raise ValueError("has more digits than can be read") from None
    raise ValueError("must be a whole number")


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        if abs(value) > _EXACT_IN_A_DOUBLE and not _fits_a_double(value):
            raise ValueError("is a whole number that a double cannot hold exactly; declare int or Decimal")
        return float(value)
    if type(value) is str and _NUMBER.fullmatch(value.strip()):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError("is beyond the range of a double; declare Decimal")
        return _float(int(value)) if abs(number) >= _EXACT_IN_A_DOUBLE and _WHOLE.fullmatch(value.strip()) else number
    raise ValueError("must be a finite number")


def _fits_a_double(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is int and value in (0, 1):
        return value == 1
    if type(value) is str and value.lower() in ("true", "false", "1", "0"):
        return value.lower() in ("true", "1")
    raise ValueError("must be true, false, 1 or 0")


def _decimal(value: Any) -> Decimal:
    if type(value) is int:
        return Decimal(value)
    if type(value) is float:
        return Decimal(repr(value))
    if type(value) is str and _NUMBER.fullmatch(value.strip()):
        try:
            return Decimal(value.strip())
        except InvalidOperation:
            raise ValueError("is beyond the range of a Decimal") from None
    raise ValueError("must be a finite number, or its text")


def _datetime(value: Any) -> datetime:
    if type(value) is str and len(value) > 10:
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return read if read.tzinfo else read.replace(tzinfo=UTC)
    raise ValueError("must be a date and time in ISO 8601, such as 2026-01-31T12:00:00Z")


def _date(value: Any) -> date:
    if type(value) is str:
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError("must be a date in ISO 8601, such as 2026-01-31")


def _time(value: Any) -> time:
    if type(value) is str:
        try:
            return time.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError("must be a time in ISO 8601, such as 12:30:00")


def _timedelta(value: Any) -> timedelta:
    try:
        if type(value) in (int, float):
            return timedelta(seconds=value)
        found = _DURATION.fullmatch(value) if type(value) is str else None
        if found and value[-1] not in "PT":
            return _duration(found)
    except OverflowError:
        raise ValueError("is longer than a duration can be") from None
    raise ValueError("must be a number of seconds, or an ISO 8601 duration such as PT90S")


def _duration(found: re.Match[str]) -> timedelta:
    part = (found["part"] or "").ljust(6, "0")
    units = {unit: int(found[unit] or 0) for unit in ("weeks", "days", "hours", "minutes", "seconds")}
    length = timedelta(**units, microseconds=int(part))
    return -length if found["sign"] == "-" else length


def _uuid(value: Any) -> UUID:
    if type(value) is str and len(value) <= 45:
        try:
            return UUID(value)
        except ValueError:
            pass
    raise ValueError("must be a UUID")


def _enum_reader(kind: type[Enum]) -> Callable[[Any], Enum]:
    members = {member.name: member for member in kind}
    members |= {member.value: member for member in kind if isinstance(member.value, str)}
    numbers = {member.value: member for member in kind if type(member.value) is int}
    shown = ", ".join(str(payload.printable_text(str(m.value))) for m in kind)

    def read(value: Any) -> Enum:
        table: Mapping[Any, Enum] = members if type(value) is str else numbers if type(value) is int else {}
        if value.__hash__ and value in table:
            return table[value]
        raise ValueError(f"must be one of: {shown}")

    return read


_READERS: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    int: _integer,
    float: _float,
    bool: _boolean,
    Decimal: _decimal,
    datetime: _datetime,
    date: _date,
    time: _time,
    timedelta: _timedelta,
    UUID: _uuid,
}
