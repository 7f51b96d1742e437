"""The texts that a secret value is written as, before any escaping; asked by `secrecy.scrubbing`."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from email.utils import format_datetime
from enum import Enum
from typing import Any
from uuid import UUID

from actionbus.core.values.payload import duration_text


def leaves(value: object) -> Iterator[object]:
    """Every single value inside `value`, keys included, as what it is; None and truth values are none."""
    if isinstance(value, (str, bytes)):
        yield value
    elif isinstance(value, (bytearray, memoryview)):
        yield bytes(value)
    elif isinstance(value, Enum):
        yield value
        yield from leaves(value.value)
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from leaves(pair)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name, None))
    elif isinstance(value, Collection):
        for each in value:
            yield from leaves(each)
    elif value is not None and not isinstance(value, bool):
        yield value


def texts(leaf: object) -> set[str]:
    """The texts that a value is written as: that of `str`, of JSON, and others in common use."""
    return {text for text in _texts(leaf) if text}


def _texts(leaf: Any) -> Iterator[str]:
    if isinstance(leaf, bytes):
        yield leaf.decode("latin-1")
        return
    if isinstance(leaf, str):
        yield from (str.__str__(leaf), leaf.strip())
        if not leaf.isascii():
            yield from (unicodedata.normalize("NFC", leaf), unicodedata.normalize("NFD", leaf))
    elif isinstance(leaf, Enum):
        yield from (str(leaf), leaf.name)
    elif isinstance(leaf, datetime):
        yield from _of_datetime(leaf)
    elif isinstance(leaf, date):
        # Not with a strftime of one form only: people write dates in many.
        yield from (f"{leaf:%Y-%m-%d}", f"{leaf:%Y%m%d}", f"{leaf:%d.%m.%Y}", f"{leaf:%d/%m/%Y}", f"{leaf:%m/%d/%Y}")
        yield leaf.isoformat()
    elif isinstance(leaf, time):
        yield leaf.isoformat()
    elif isinstance(leaf, timedelta):
        yield from _of_timedelta(leaf)
    elif isinstance(leaf, UUID):
        yield from (
            str(leaf),
            str(leaf).upper(),
            leaf.hex,
            leaf.hex.upper(),
            str(leaf.int),
            leaf.bytes.decode("latin-1"),
        )
    elif isinstance(leaf, (int, float, Decimal)):
        yield from _of_number(leaf)
    else:
        yield from (str(leaf), repr(leaf))


def _of_datetime(moment: datetime) -> Iterator[str]:
    yield str(moment)
    yield moment.isoformat()
    zones = [moment] if moment.tzinfo is None else [moment, moment.astimezone(UTC), moment.astimezone()]
    for each in zones:
        # To the second: whatever fraction and offset come after.
        yield from (f"{each:%Y-%m-%dT%H:%M:%S}", f"{each:%Y-%m-%d %H:%M:%S}", f"{each:%Y%m%dT%H%M%S}")
        yield format_datetime(each)[5:25]
    if moment.tzinfo is not None or moment.year > 1970:
        yield str(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))


def _of_timedelta(value: timedelta) -> Iterator[str]:
    seconds, days = value.total_seconds(), value.days
    hours, rest = divmod(value.seconds, 3600)
    parts = ((hours, "H"), (rest // 60, "M"), (rest % 60, "S"))
    yield from (str(value), duration_text(value), str(value // timedelta(microseconds=1)), repr(seconds))
    yield str(int(seconds))
    yield f"P{days}DT" + "".join(f"{number}{unit}" for number, unit in parts if number)
    yield "PT" + "".join(f"{number}{unit}" for number, unit in ((days * 24 + hours, "H"), *parts[1:]) if number)


def _of_number(value: Any) -> Iterator[str]:
    yield str(value)
    if isinstance(value, int):
        yield from (int.__str__(value), f"{value:,}")
    elif value == value and abs(value) < 1e300:
        yield from (f"{value:f}", repr(float(value)))
        yield f"{value:.0f}" if value == int(value) else f"{value:f}".rstrip("0")
