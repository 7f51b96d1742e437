"""Values on SQLite as they are: texts that are no UTF-8, rows that are counted, the order of keys.

Used where rows are copied or folded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from marshal import dumps
from typing import Any, Final
from uuid import UUID

AS_IT_IS: Final = 2
"""The form of `marshal` in which only equal values have equal bytes: 1, 1.0 and true differ, 0.0 and -0.0 too."""
_UUID: Final = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class BrokenText(bytes):
    """A text that is no UTF-8, to be bound where `mark` stands."""


def text_of(stored: bytes) -> str:
    """For `text_factory`: bytes that are no UTF-8 become surrogates."""
    return stored.decode(errors="surrogateescape")


def bound(value: Any) -> Any:
    """A value as the driver takes it."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return BrokenText(value.encode(errors="surrogateescape"))
    return value


def marks(row: Sequence[Any]) -> str:
    """What stands for the values of a row that was `bound`."""
    return ", ".join("CAST(? AS TEXT)" if isinstance(each, BrokenText) else "?" for each in row)


_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


def as_stored(type_name: str, value: Any) -> Any:
    """A value as a column of this type keeps it: text that looks like a number is one where the type is.

    SQLAlchemy keeps a UUID as CHAR(32), its digits alone; the journal shows it as people write it.
    """
    kind = type_name.upper()
    if isinstance(value, UUID) or (kind == "CHAR(32)" and isinstance(value, str) and _UUID.fullmatch(value)):
        return UUID(str(value)).hex if kind == "CHAR(32)" else str(value)
    if not isinstance(value, str) or any(each in kind for each in ("CHAR", "CLOB", "TEXT", "BLOB")) or not kind:
        return value
    for number in (int, float):
        try:
            read = number(value)
        except ValueError:
            continue
        if not isinstance(read, int) or _SMALLEST <= read <= _LARGEST:  # beyond, SQLite makes it a REAL
            return read
    return value


def count_row(counts: dict[bytes, list[Any]], key: Any, held: Any, times: int, image: int) -> None:
    """Note a row as so many times more there, by all that is in it, and the image that says so."""
    told = counts.setdefault(dumps(held, AS_IT_IS), [key, held, 0, 0])
    told[2] += times
    told[3] = image


def place_of_key(row: Sequence[Any]) -> tuple[Any, ...]:
    """Where a key stands in the order of the index: NULL, numbers, texts, bytes."""
    key, image = row[:2]
    if key is None:
        return 0, 0, image
    if isinstance(key, str):
        return 2, key.encode(errors="surrogateescape"), image
    return 3 if isinstance(key, bytes) else 1, key, image
