"""A row of the journal, as the driver gives it, becomes a Record. Used by `core.journal` and `storage.reader`.

The driver's own cursor is read, past SQLAlchemy's rows and types: a reader of a long journal spends its time here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID, SafeUUID

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    FromClause,
    Select,
    Text,
    case,
    cast,
    func,
    literal,
    null,
)

from actionbus.core.errors import JournalUnavailable
from actionbus.core.storage.table import COLUMNS, PAYLOADS, TIMES
from actionbus.core.values import payload
from actionbus.core.values.record import Record, Teller

LONG: Final = "$long"
"""In the place of what is too long for a list, with how many characters it has."""
_IDS: Final = ("action_id", "cause_id")
_PLACES: Final = {name: place for place, name in enumerate(COLUMNS)}
_FIRST_PAYLOAD: Final = _PLACES[PAYLOADS[0]]
_AFTER_PAYLOADS: Final = _FIRST_PAYLOAD + len(PAYLOADS)

BYTES_BESIDES: Final = 1_000
"""That a row takes in memory without its payloads."""


def columns_to_read(table: FromClause, *, brief: int | None = None) -> list[ColumnElement[Any]]:
    """All columns in their order; ids and payloads as text: the driver would decode JSON in a way that loses digits.

    With `brief`, a payload of more characters is `{"$long": HOW_MANY}`, and calls are left out: for long lists.
    """
    found: dict[str, ColumnElement[Any]] = {**dict(table.c.items())}
    found |= {name: cast(table.c[name], Text) for name in _IDS}
    found |= {name: _payload_text(table.c[name], brief) for name in PAYLOADS}
    return [found[name].label(name) for name in COLUMNS]


def _payload_text(column: ColumnElement[Any], brief: int | None) -> ColumnElement[Any]:
    text = cast(column, Text)
    if brief is None:
        return text
    if column.name == "calls":
        return cast(null(), Text)
    size = func.length(text)
    return case((size > brief, literal('{"' + LONG + '": ') + cast(size, Text) + "}"), else_=text)


def fetch(
    connection: Connection, statement: Select[Any] | CompoundSelect[Any], parameters: Mapping[str, Any] | None = None
) -> list[Sequence[Any]]:
    """The rows of a statement over `columns_to_read`, as the driver has them."""
    with connection.execute(statement, parameters) as result:
        cursor = result.cursor
        return list(cursor.fetchall()) if cursor is not None else []


def size_of(row: Sequence[Any]) -> int:
    """About how many bytes a row takes in memory."""
    size = BYTES_BESIDES
    for text in row[_FIRST_PAYLOAD:_AFTER_PAYLOADS]:
        if text is not None:
            size += len(text)
    return size


class RowDecoder:
    """Makes Records of rows; `utc` reads the driver's times, and `teller` is the journal's.

    Raises JournalUnavailable, which names the position, for a value that no record can have.
    """

    def __init__(self, utc: Callable[[Any], datetime], teller: Teller) -> None:
        self.teller = teller
        self._of: dict[str, Callable[[Any], Any]] = dict.fromkeys(PAYLOADS, payload.loads)
        self._of["arguments"] = lambda text: payload.loads(text) or {}
        self._of |= dict.fromkeys(_IDS, _identity) | dict.fromkeys(TIMES, utc)

    def __call__(self, row: Sequence[Any]) -> Record:
        """A record whose payloads are decoded now, so that it is known to be one."""
        context, arguments, result, error, calls = row[_FIRST_PAYLOAD:_AFTER_PAYLOADS]
        loads = payload.loads
        try:
            return Record.of_row(row, self).with_payloads(
                None if context is None else loads(context),
                {} if arguments is None else loads(arguments) or {},
                None if result is None else loads(result),
                None if error is None else loads(error),
                None if calls is None else loads(calls),
            )
        except Exception as why:
            raise _unreadable(row, why) from why

    def decoded(self, row: Sequence[Any], name: str) -> Any:
        """One column's value as a record has it."""
        value = row[_PLACES[name]]
        if value is None:
            return {} if name == "arguments" else None
        decode = self._of.get(name)
        if decode is None:
            return value
        try:
            return decode(value)
        except Exception as why:
            raise _unreadable(row, why) from why


def _unreadable(row: Sequence[Any], why: Exception) -> JournalUnavailable:
    """By SQL anything can be put there."""
    return JournalUnavailable(
        f"the record at position {row[0]} cannot be read, and was not written by an action "
        f"({type(why).__name__}: {why}); read up to it, or on with after={row[0]}"
    )


def _identity(text: str) -> UUID:
    # As UUID(text) would, in half the time: the text is the database's own and needs no checks.
    found = object.__new__(UUID)
    object.__setattr__(found, "int", int(text.replace("-", ""), 16))
    object.__setattr__(found, "is_safe", SafeUUID.unknown)
    return found
