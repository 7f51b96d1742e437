"""The next rows of the journal for whoever follows it, bounded by their bytes before they are fetched.

`storage.reader` calls it. How rows are found is not left to a planner who would have to know how often a value comes: a
table that was filled a moment ago has no statistics, and each page of `action IN (…)` would then read and sort all that
is left of the journal. So each value is read along its own index, in the order of positions, and they are merged; of
many values the journal itself is walked along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    true,
    union_all,
)

from actionbus.core.storage.backend import Backend
from actionbus.core.storage.by_value import PARTIAL, ByValue, indexed
from actionbus.core.storage.conditions import conditions_of, keyset
from actionbus.core.storage.row_decoding import BYTES_BESIDES, columns_to_read, fetch, size_of
from actionbus.core.storage.shared import shared
from actionbus.core.storage.table import COLUMNS, PAYLOADS
from actionbus.core.values.journal_filter import JournalFilter

_FIRST_PAGE: Final = 500
"""Rows that are looked at by the first statement; how many fit is known from the statement before."""
_INDEXED_VALUES: Final = 32
"""Values that are looked up one by one; of more, most records have one of them."""
_STATEMENTS: Final = 100
_WALKED: Final = 2
"""Positions for each row that is asked for, among which it is looked for first where the journal is walked along: so
many may be sorted, if the planner likes that better."""
_AFTER: Final = shared(bindparam("after", type_=BigInteger))
_UPTO: Final = shared(bindparam("upto", type_=BigInteger))

Rows = Sequence[Sequence[Any]]


class Stretch(NamedTuple):
    """Rows of a part of the journal; there are no others that meet the same conditions beyond `start` up to `end`."""

    start: int
    end: int
    rows: Rows
    size: int
    """Bytes of them all, about."""
    upto: int
    """How far the journal was settled when they were read."""


class Page(NamedTuple):
    """The rows of one statement, and whether there may be more of them."""

    rows: list[Sequence[Any]]
    size: int
    is_all: bool


class StretchReader:
    """Reads up to a position that is known to be settled."""

    def __init__(self, backend: Backend, table: Table) -> None:
        self._backend, self._table = backend, table
        self._comes_whole = backend.engine.dialect.name == "postgresql"
        """Whether a statement's rows come all at once, so that it has to bound their bytes itself."""
        self._made: dict[JournalFilter, Select[Any]] = {}
        self._page = _FIRST_PAGE

    def read(self, after: int, upto: int, where: JournalFilter, limit: int, room: int) -> Stretch:
        """The next rows beyond `after` that are asked for, at most `limit`, until `room` bytes are reached."""
        statement, span = self._statement(where), 0 if _by_index(where) else _WALKED * limit
        rows: list[Sequence[Any]] = []
        end, size = after, 0
        while end < upto and len(rows) < limit and size < room:
            high = min(upto, end + span) if span else upto
            page = self._read(statement, end, high, limit - len(rows), room - size)
            end = high if page.is_all else page.rows[-1][0]
            size += page.size
            rows += page.rows
            span *= 2  # where few are wanted
        return Stretch(after, end, rows, size, upto)

    def _read(self, statement: Select[Any], after: int, upto: int, size: int, room: int) -> Page:
        given = {"after": after, "upto": upto, "size": size, "room": room}
        if not self._comes_whole:
            return self._backend.read(lambda connection: _fetched(connection, statement, given))
        given["size"] = size = min(size, self._page)
        rows = self._backend.read(lambda connection: fetch(connection, statement, given))
        bytes_read = int(rows[-1][-1]) if rows else 0
        is_cut = bytes_read >= room
        # Where few fitted, the next statement looks at few; else their sizes alone would take long.
        self._page = max(1, 2 * len(rows)) if is_cut else max(self._page, min(4 * len(rows), 4 * self._page))
        return Page(rows, bytes_read, is_all=len(rows) < size and not is_cut)

    def _statement(self, where: JournalFilter) -> Select[Any]:
        """Made once for each filter: making it takes longer than a small page."""
        try:
            found = self._made.get(where)
        except TypeError:  # a list of values
            return self._new_statement(where)
        if found is None:
            found = shared(self._new_statement(where))
            if len(self._made) >= _STATEMENTS:
                self._made.clear()
            self._made[where] = found
        return found

    def _new_statement(self, where: JournalFilter) -> Select[Any]:
        wanted, size = _by_index(where), bindparam("size", type_=Integer)
        if wanted is None:
            found = self._walked(where, size)
        elif self._comes_whole:
            found = self._merged(wanted, where, size)
        else:
            found = self._looked_up(wanted, where, size)
        return self._bounded(found.subquery()) if self._comes_whole else found

    def _branches(self, wanted: ByValue, where: JournalFilter, size: ColumnElement[int], columns: Any) -> list[Any]:
        """For each value what reads the next rows along its index."""
        c, column = self._table.c, self._table.c[wanted.column]
        without: Any = {wanted.column: None}
        conditions: list[Any] = self._conditions(replace(where, **without))
        if wanted.column in PARTIAL:
            conditions.append(PARTIAL[wanted.column])
        return [
            select(*columns)
            .where(*keyset(self._backend.engine.dialect.name, column, value, c.position, _AFTER, _UPTO), *conditions)
            .order_by(column, c.position)
            .limit(size)
            .subquery()
            for value in wanted.values
        ]

    def _merged(self, wanted: ByValue, where: JournalFilter, size: ColumnElement[int]) -> Select[Any]:
        """PostgreSQL merges as many rows of each as it takes."""
        every = union_all(*(select(each) for each in self._branches(wanted, where, size, self._columns()))).subquery()
        return select(every).order_by(every.c.position).limit(size)

    def _looked_up(self, wanted: ByValue, where: JournalFilter, size: ColumnElement[int]) -> Select[Any]:
        """SQLite sorts their positions, and fetches rows as they are asked for."""
        position = self._table.c.position
        branches = (select(each) for each in self._branches(wanted, where, size, [position]))
        rows = select(*columns_to_read(self._table)).where(position.in_(union_all(*branches)))
        return rows.order_by(position).limit(size)

    def _walked(self, where: JournalFilter, size: ColumnElement[int]) -> Select[Any]:
        position = self._table.c.position
        columns = self._columns() if self._comes_whole else columns_to_read(self._table)
        within = (position > _AFTER, position <= _UPTO)
        return select(*columns).where(*within, *self._conditions(where)).order_by(position).limit(size)

    def _bounded(self, found: FromClause) -> Select[Any]:
        """Those of the rows before which there is still room."""
        own: ColumnElement[float] = literal(BYTES_BESIDES, Double)
        for name in PAYLOADS:
            own = own + func.coalesce(cast(_size_of(found.c[name]), Double), 0.0)
        so_far = func.sum(own).over(order_by=found.c.position, rows=(None, 0))
        weighed = select(*found.c, own.label("own"), so_far.label("so_far")).subquery()
        fits = weighed.c.so_far - weighed.c.own < bindparam("room", type_=Double)
        return select(*columns_to_read(weighed), weighed.c.so_far).where(fits).order_by(weighed.c.position)

    def _conditions(self, where: JournalFilter) -> list[ColumnElement[bool]]:
        """In a form for which no other index is used."""
        found = conditions_of(where, self._table, self._backend.comparable)
        return [case((each, true()), else_=None) for each in found]

    def _columns(self) -> list[ColumnElement[Any]]:
        return [self._table.c[name] for name in COLUMNS]


def _by_index(where: JournalFilter) -> ByValue | None:
    """The index by which a filter is looked up, unless it is for too many values."""
    wanted = indexed(where)
    return wanted if wanted and len(wanted.values) <= _INDEXED_VALUES else None


def _fetched(connection: Connection, statement: Select[Any], given: Mapping[str, int]) -> Page:
    """Row by row, until there is no room."""
    rows: list[Sequence[Any]] = []
    size = 0
    with connection.execute(statement, given) as result:
        for row in iter(result.cursor.fetchone, None) if result.cursor else ():
            rows.append(row)
            size += size_of(row)
            if size >= given["room"]:
                return Page(rows, size, is_all=False)
    return Page(rows, size, is_all=len(rows) < given["size"])


def _size_of(column: ColumnElement[Any]) -> ColumnElement[int]:
    """How many bytes a value has; of one that is not compressed, without reading it (PostgreSQL)."""
    is_plain = func.pg_column_compression(column).is_(None)
    return case((is_plain, func.pg_column_size(column)), else_=func.octet_length(cast(column, Text)))
