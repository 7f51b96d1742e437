"""Texts on SQLite that are no UTF-8: read into Python and written again as they were. Used by whoever copies rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Broken(bytes):
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
            return Broken(value.encode(errors="surrogateescape"))
    return value


def marks(row: Sequence[Any]) -> str:
    """What stands for the values of a row that was `bound`."""
    return ", ".join("CAST(? AS TEXT)" if isinstance(each, Broken) else "?" for each in row)
