"""JSON text of the journal's payload columns: what callers sent becomes ASCII text and back, exactly.

Called by the runner for arguments, results and context, by Journal when records are read, and by whoever writes JSON of
ours anywhere. Two do not: documents of projections go through orjson alone, as bytes and as they are (UTF-8, with what
orjson knows besides), since stores take and compare millions of them; and what is written for people to read is the
stdlib's, in their letters or indented, and says so at the place (`tests/test_rooms.py` has the list).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final
from uuid import UUID

import orjson

from actionbus.core.values.limits import Limits

REDACTED: Final = {"$redacted": True}
"""Stands where a sensitive value, or the value of an argument nobody declared, was left out."""

ERASED: Final = {"$erased": True}
"""Stands where a personal value was, since its subject was erased."""

Problems = dict[str, list[str]]

_encode: Callable[[Any], str] = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
_digits_side_by_side: Final = re.compile("[0-9]{2}").search
_long_number: Final = re.compile("[0-9]{19}").search
_scalars: Final = (datetime, date, time)
_SHOWING: Final = Limits(depth=100, digits=4000)


class Unencodable(ValueError):
    """The value has no exact JSON form; the message says what it is and what to pass instead."""


class TooLong(Unencodable):
    """A whole number has more digits than the limit."""


class TooManyDigits:
    """Stands for a whole number from outside that is longer than Python reads; nobody takes it for an argument."""


class TooDeep(ValueError):
    """Lists and dicts lie inside each other deeper than the limit."""


def dumps(value: Any) -> str:
    """ASCII JSON text of a value that `primitive` returned."""
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # whole numbers beyond 64 bits, lone surrogates, depth: orjson refuses them, the stdlib does not
        return _encode(value)
    return text if text.isascii() else _encode(value)


def shown_text(value: Any) -> str:
    """ASCII JSON text of what is shown to somebody: dates, ids and the like as `primitive` writes them."""
    return dumps(primitive(value, _SHOWING))


def loads(text: str) -> Any:
    """The value of JSON text written by `dumps`."""
    # orjson would make a float of what does not fit 64 bits. Of 19 digits in a row, at least two neighbours are among
    # every ninth character: so most texts need not be searched.
    if _digits_side_by_side(text[8::9]) and _long_number(text):
        return json.loads(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # lone surrogates, depth
        return json.loads(text)


def parse(text: str | bytes) -> Any:
    """The value of JSON text from outside, without losing digits.

    A number that no double holds exactly comes as Decimal, and one of thousands of digits as TooManyDigits, which
    `primitive` refuses. Raises ValueError for anything that is not JSON (RFC 8259),
    and for an object with the same name twice: whoever checked the text before may have read the other value.
    """
    try:
        return json.loads(
            text,
            parse_float=_exact_number,
            parse_int=_exact_integer,
            parse_constant=_no_constant,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise TooDeep("the JSON text is nested too deeply to be read") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError(f"the name {printable_text(_twice(pairs))!r} occurs twice in one object")
    return made


def _twice(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            break
        seen.add(name)
    return name


def _exact_number(text: str) -> float | Decimal:
    number = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise ValueError("a number's exponent is beyond any that can be kept") from None
    return number if math.isfinite(number) and Decimal(repr(number)) == exact else exact


def _exact_integer(text: str) -> int | float | TooManyDigits:
    try:
        return -0.0 if text == "-0" else int(text)
    except ValueError:
        return TooManyDigits()


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON; numbers must be finite")


def primitive(value: Any, limits: Limits, depth: int = 1) -> Any:
    """`value` as str, int, float, bool, None, list and dict, as `loads(dumps(...))` would give it back.

    Dates, UUIDs, Decimals, timedeltas and Enums take their usual text. Raises Unencodable or TooDeep.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return _whole(value, limits)
    if kind is dict:
        if depth > limits.depth:
            raise TooDeep(f"nested deeper than {limits.depth} levels")
        return {_name(key): primitive(each, limits, depth + 1) for key, each in value.items()}
    if kind is list or kind is tuple:
        if depth > limits.depth:
            raise TooDeep(f"nested deeper than {limits.depth} levels")
        return [primitive(each, limits, depth + 1) for each in value]
    return _special(value, limits, depth)


def _special(value: Any, limits: Limits, depth: int) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return primitive(value.value if isinstance(value.value, (str, int)) else value.name, limits, depth)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        raise Unencodable(f"{value} is not a finite number")
    if isinstance(value, _scalars):
        return value.isoformat()
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, Decimal):
        if value.is_finite():
            return str(value)
        raise Unencodable(f"{value} is not a finite number")
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _whole(int(value), limits)
    if isinstance(value, Mapping):
        return primitive(dict(value), limits, depth)
    if isinstance(value, (list, tuple)):
        return primitive(list(value), limits, depth)
    if isinstance(value, (set, frozenset)):
        return sorted(primitive(list(value), limits, depth), key=_encode)
    if isinstance(value, TooManyDigits):
        raise TooLong(f"a whole number of more than {limits.digits} digits")
    raise Unencodable(getattr(type(value), "_WITHOUT_JSON", f"a {type(value).__name__} has no JSON form"))


def _whole(value: int, limits: Limits) -> int:
    # A decimal digit takes more than 3.3 bits, so the cheap test lets every number through that the exact one would.
    if value.bit_length() > limits.digits * 3.3 and abs(value) >= 10**limits.digits:
        raise TooLong(f"a whole number of more than {limits.digits} digits")
    return value


def _name(key: Any) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise Unencodable(f"a key must be text, not {type(key).__name__}")


def unstorable_text(value: Any) -> str | None:
    """Why a text in `value` could not be stored in every database, or None."""
    if isinstance(value, str):
        if "\0" in value:
            return "contains the NUL character, which text cannot hold"
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return "contains half of a surrogate pair, which is not a Unicode character"
        return None
    if isinstance(value, dict):
        return next((why for pair in value.items() for each in pair if (why := unstorable_text(each))), None)
    if isinstance(value, list):
        return next((why for each in value if (why := unstorable_text(each))), None)
    return None


def suspicious(text: str) -> bool:
    """Whether JSON text may hold NUL or a surrogate; cheap, and rarely true."""
    return "\\u0000" in text or "\\ud" in text


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same, telling 1, 1.0 and true apart, whatever the order of keys."""
    return _sorted_text(one) == _sorted_text(other)


def _sorted_text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{dumps(key)}:{_sorted_text(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_sorted_text, value)) + "]"
    return dumps(value)


def summary(arguments: Mapping[Any, Any], size: int | None) -> dict[str, Any]:
    """What is kept of arguments beyond the limits: names, kinds and lengths, no values."""
    fields = {ascii(name)[:80]: _described(value) for name, value in list(arguments.items())[:50]}
    return {"$summary": {"bytes": size, "count": len(arguments), "fields": fields}}


def _described(value: Any) -> str:
    try:
        return f"{type(value).__name__} of length {len(value)}"
    except Exception:
        return type(value).__name__


def duration_text(value: timedelta) -> str:
    """ISO 8601 duration, exact to the microsecond: `PT90S`, `-PT0.000001S`."""
    micros = value // timedelta(microseconds=1)
    whole, part = divmod(abs(micros), 1_000_000)
    fraction = f".{part:06d}".rstrip("0") if part else ""
    return f"{'-' if micros < 0 else ''}PT{whole}{fraction}S"


def printable_text(value: Any, length: int = 200) -> str:
    """Any object as short ASCII text that every text column can hold."""
    if isinstance(value, str):
        text = value if value.isascii() and value.isprintable() else ascii(value)
    else:
        text = f"({type(value).__name__})"
    return text if len(text) <= length else text[: length - 1] + "~"
