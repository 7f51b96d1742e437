"""A row of the journal, as the driver gives it, becomes a Record. Used by `core.journal` and `storage.reader`.

The driver's own cursor is read, past SQLAlchemy's rows and types: a reader of a long journal spends its time here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import Any
from uuid import UUID, SafeUUID

from sqlalchemy import ColumnElement, Connection, Select, Table, Text, cast, func, literal

from actionbus.core.errors import JournalUnavailable
from actionbus.core.storage.table import COLUMNS, PAYLOADS
from actionbus.core.values import payload
from actionbus.core.values.record import Record, Teller

Decode = Callable[[Sequence[Any]], Record]


def columns_to_read(table: Table) -> list[ColumnElement[Any]]:
    """All columns: ids as text, which is cheaper to read, and the payloads as one JSON array in the first one's place.

    Together they are decoded in one go; as text, because the driver would decode JSON in a way that loses digits.
    """
    payloads = ",".join(PAYLOADS)
    assert payloads in ",".join(COLUMNS)
    parts: list[ColumnElement[Any]] = [func.coalesce(cast(table.c[name], Text), "null") for name in PAYLOADS]
    array = literal("[") + reduce(lambda before, part: before + "," + part, parts) + "]"
    as_text = {name: cast(table.c[name], Text) for name in ("action_id", "cause_id")}
    found: dict[str, ColumnElement[Any]] = {**dict(table.c.items()), **as_text, PAYLOADS[0]: array}
    return [found[name].label(name) for name in COLUMNS if name not in PAYLOADS[1:]]


def fetch(
    connection: Connection, statement: Select[Any], parameters: Mapping[str, Any] | None = None
) -> list[Sequence[Any]]:
    """The rows of a statement over `columns_to_read`, as the driver has them."""
    with connection.execute(statement, parameters) as result:
        cursor = result.cursor
        return list(cursor.fetchall()) if cursor is not None else []


def decoder(utc: Callable[[Any], datetime], teller: Teller) -> Decode:
    """What makes a Record of a row; `utc` reads the driver's times, and `teller` is the journal's.

    It raises JournalUnavailable, which names the position, for one that is none.
    """
    loads, identity = payload.loads, _identity

    def decode(row: Sequence[Any]) -> Record:
        (position, action_id, kind, status, action, version, actor, correlation, cause, key, recorded, started, release,
         payloads, seed, xid, seen, duration, form) = row  # fmt: skip
        try:
            context, arguments, result, error, calls = loads(payloads)
            return Record(
                position, identity(action_id), kind, status, action, version, actor, correlation,
                identity(cause) if cause else None, key, utc(recorded), utc(started) if started else None, release,
                context, arguments or {}, result, error, calls, seed, xid, seen, duration, form, teller,
            )  # fmt: skip
        except Exception as why:  # by SQL anything can be put there
            raise JournalUnavailable(
                f"the record at position {position} cannot be read, and was not written by an action "
                f"({type(why).__name__}: {why}); read up to it, or on with after={position}"
            ) from why

    return decode


def _identity(text: str) -> UUID:
    # As UUID(text) would, in half the time: the text is the database's own and needs no checks.
    found = object.__new__(UUID)
    object.__setattr__(found, "int", int(text.replace("-", ""), 16))
    object.__setattr__(found, "is_safe", SafeUUID.unknown)
    return found
