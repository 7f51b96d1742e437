"""Values as PostgreSQL's SQL has them, for `storage.postgresql`: texts as the driver quotes them, all in one statement.

`cursor.execute` of psycopg2 takes several times as long, since it looks up how to write each kind of value. What cannot
need quoting is written as it is: numbers, ids, times, and ASCII texts without quotes, backslashes and NUL, of which
there is one spelling whatever the session's settings (`standard_conforming_strings`, the encoding). Every other text is
quoted by the driver, as these want it at that moment, and what is of any other type as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain, zip_longest
from typing import Any
from uuid import UUID

from psycopg2.extensions import QuotedString, encodings


def literal(value: Any, cursor: Any) -> str:
    """One value. Raises ValueError for a text that holds NUL, as psycopg2 does."""
    kind = type(value)
    if value is None:
        return "NULL"
    if kind is str:
        return f"'{value}'" if _is_plain(value) else _quoted(value, cursor.connection)
    if kind is int:
        return str(value)
    if kind is UUID:
        return f"'{value.hex}'"
    if kind is datetime:
        return f"'{value}'"
    written: bytes = cursor.mogrify("%s", (value,))
    return written.decode(encodings[cursor.connection.encoding])


def _is_plain(value: str) -> bool:
    return value.isascii() and "'" not in value and "\\" not in value and "\0" not in value


def _quoted(value: str, connection: Any) -> str:
    text = QuotedString(value)
    text.prepare(connection)
    quoted: bytes = text.getquoted()
    return quoted.decode(encodings[connection.encoding])


def literals(values: Iterable[Any], cursor: Any) -> str:
    """Several, with commas between them."""
    return ", ".join([literal(each, cursor) for each in values])


def arguments(values: Iterable[Any], cursor: Any) -> str:
    """Several, as EXECUTE takes them: a number in quotes is read as what its parameter is, and not cast to it."""
    return ", ".join([f"'{each}'" if type(each) is int else literal(each, cursor) for each in values])


def filled(sql: str, values: Sequence[Any], cursor: Any, *, schema: str = "") -> str:
    """SQL with a value in place of each `?`, and `schema`, which may hold a `?` itself, in place of each `{schema}`."""
    told = (literal(each, cursor) for each in values)
    parts = (part.replace("{schema}", schema) for part in sql.split("?"))
    return "".join(chain.from_iterable(zip_longest(parts, told, fillvalue="")))
