"""What an image holds becomes Python values, and these JSON without loss. Used by `history.fold` and the commands.

On PostgreSQL an image is the text of a row, of texts, each in its type's own form; they become what the driver gives
for such. Where that would lose something (infinite dates, months of an interval, digits in JSON), and for a type that
is not known here, the text itself is the value. On SQLite values are kept as they were.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

Values = tuple[Any, ...]
Convert = Callable[[str], Any]
Decode = Callable[[Sequence[str]], Iterable[Values]]

_FIELD: Final = re.compile(r'"((?:[^"\\]|""|\\.)*)"|([^,"]*)', re.DOTALL)
_ESCAPED: Final = re.compile(r'""|\\(.)', re.DOTALL)
_MODIFIER: Final = re.compile(r"\([^)]*\)")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:\d\d)?)?")
_TIME: Final = re.compile(r"\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:\d\d)?)?")
_SPAN: Final = re.compile(r"(?:(-?\d+) days? ?)?(?:(-?)(\d+):(\d\d):(\d\d)(?:\.(\d+))?)?")
_DAY: Final = 24 * 60 * 60 * 1_000_000
_LONGEST: Final = 100_000
"""Bytes of a row's text for the reader of CSV, which has a limit of its own for each field."""
_ELEMENT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([{},])|([^{},"]+)', re.DOTALL)


class Unknown:
    """Stands for a column that was not recorded when the row was last written: neither NULL nor any other value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __bool__(self) -> bool:
        return False


UNKNOWN: Final = Unknown()
_ERASED: Final = " erased:"
"""So a field of a row's text begins whose value was erased: PostgreSQL itself puts one with a space into quotes."""


@dataclass(frozen=True, slots=True)
class ErasedValue:
    """Stands for a personal value that was erased: equal values have equal stand-ins within one erasure."""

    stand_in: str

    def __repr__(self) -> str:
        return f"ERASED({self.stand_in})"

    def __bool__(self) -> bool:
        return False


def has_erased(row: Any) -> bool:
    """Whether a row may hold an erased value: its text on PostgreSQL, its values on SQLite."""
    return _ERASED in row if isinstance(row, str) else any(isinstance(each, ErasedValue) for each in row)


def fields_of(text: str) -> list[str | ErasedValue | None]:
    """The texts of a row's text, `(1,"a b",)`; None for NULL."""
    body = text[1:-1]
    if '"' not in body and _ERASED not in body:
        return [each or None for each in body.split(",")]
    found: list[str | ErasedValue | None] = []
    place = 0
    while place <= len(body):
        field = _FIELD.match(body, place)
        assert field is not None  # the second form matches everywhere
        quoted, bare = field.groups()
        found.append(_bare(bare) if quoted is None else _ESCAPED.sub(_unescaped, quoted))
        place = field.end() + 1
    return found


def _bare(text: str) -> str | ErasedValue | None:
    return ErasedValue(text.removeprefix(_ERASED)) if text.startswith(_ERASED) else text or None


def _unescaped(escaped: re.Match[str]) -> str:
    return escaped[1] or '"'


def row_text(fields: Sequence[str | ErasedValue | None]) -> str:
    """A row as the text that `fields_of` reads."""
    return "(" + ",".join(map(_field_text, fields)) + ")"


def _field_text(field: str | ErasedValue | None) -> str:
    if field is None:
        return ""
    if isinstance(field, ErasedValue):
        return _ERASED + field.stand_in
    if field and not re.search(r'[\s"\\(),]', field):
        return field
    return '"' + field.replace("\\", "\\\\").replace('"', '""') + '"'


def decoder_of(types: Sequence[str]) -> Decode:
    """What makes values of many rows' texts on PostgreSQL, given their columns' types as `format_type` writes them."""
    converts = [_convert_of(each) for each in types]

    def decode(texts: Sequence[str]) -> Iterable[Values]:
        if not converts:
            return [() for _ in texts]
        # To the reader of CSV, which is quicker, an empty text looks like NULL, and a single NULL like nothing.
        every = "\n".join(texts)
        if '""' in every or _ERASED in every or "()" in texts or max(map(len, texts)) > _LONGEST:
            fields = zip(*map(fields_of, texts), strict=True)
            return zip(*map(_converted, converts, fields), strict=True)
        columns = _columns(texts, every, len(converts))
        return zip(*map(_converted_or_null, converts, columns), strict=True)

    return decode


def _columns(texts: Sequence[str], every: str, width: int) -> Iterable[Sequence[str]]:
    if every.count("\n") < len(texts):  # none is within a value, so that what lies between two rows is nowhere else
        fields = _read([every[1:-1].replace(")\n(", ",")])[0]
        return [fields[place::width] for place in range(width)]
    return zip(*_read([each[1:-1] for each in texts]), strict=True)


def _read(lines: Sequence[str]) -> list[list[str]]:
    return list(csv.reader(lines, escapechar="\\", strict=True))


def _converted(convert: Convert | None, column: Sequence[str | ErasedValue | None]) -> Sequence[Any]:
    if convert is None:
        return column
    return [convert(field) if isinstance(field, str) else field for field in column]


def _converted_or_null(convert: Convert | None, column: Sequence[str]) -> Sequence[Any]:
    if "" not in column:
        return column if convert is None else list(map(convert, column))
    if convert is None:
        return [field or None for field in column]
    return [convert(field) if field else None for field in column]


def _convert_of(type_name: str) -> Convert | None:
    plain = _MODIFIER.sub("", type_name)
    if plain.endswith("[]"):
        element = plain[:-2]
        return _array_of(_CONVERTS.get(element)) if element in _CONVERTS or element in _TEXTS else None
    return _CONVERTS.get(plain)


def _bytes(text: str) -> Any:
    return bytes.fromhex(text[2:]) if text.startswith("\\x") else text


def _date(text: str) -> Any:
    return date.fromisoformat(text) if _DATE.fullmatch(text) else text


def _moment(text: str) -> Any:
    return datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else text


def _time(text: str) -> Any:
    return time.fromisoformat(text) if _TIME.fullmatch(text) and not text.startswith("24") else text


def _span(text: str) -> Any:
    """An interval of days and less; a month has no length, and a day is not 24 hours."""
    if not text or (found := _SPAN.fullmatch(text)) is None:
        return text
    days, sign, hours, minutes, seconds, fraction = found.groups()
    micros = (int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)
    micros = micros * 1_000_000 + int((fraction or "0").ljust(6, "0"))
    if micros >= _DAY or (micros and days and bool(sign) != days.startswith("-")):
        return text
    try:
        return timedelta(days=int(days or 0), microseconds=-micros if sign else micros)
    except OverflowError:
        return text


_CONVERTS: Final[dict[str, Convert]] = {
    **dict.fromkeys(("smallint", "integer", "bigint", "oid"), int),
    **dict.fromkeys(("real", "double precision"), float),
    "numeric": Decimal,
    "boolean": "t".__eq__,
    "bytea": _bytes,
    "uuid": UUID,
    "date": _date,
    **dict.fromkeys(("timestamp without time zone", "timestamp with time zone"), _moment),
    **dict.fromkeys(("time without time zone", "time with time zone"), _time),
    "interval": _span,
}
_TEXTS: Final = frozenset({"text", "character varying", "character", "name"})


def _array_of(convert: Convert | None) -> Convert:
    def read(text: str) -> Any:
        if not text.startswith("{"):  # with bounds of its own, which a list does not have
            return text
        stack: list[list[Any]] = [[]]
        for quoted, mark, bare in _ELEMENT.findall(text):
            if mark == "{":
                stack.append([])
            elif mark == "}":
                done = stack.pop()
                stack[-1].append(done)
            elif not mark:
                element = bare or re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
                is_null = bare.upper() == "NULL"
                stack[-1].append(None if is_null else convert(element) if convert else element)
        return stack[0][0]

    return read


def shown(value: Any) -> Any:
    """A value as JSON that tells every two of them apart: what JSON has no form for carries a tag."""
    if isinstance(value, Unknown):
        return {"$unknown": True}
    if isinstance(value, ErasedValue):
        return {"$erased": value.stand_in}
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, list):
        return [shown(each) for each in value]
    if isinstance(value, Decimal):
        return str(value)
    return value
