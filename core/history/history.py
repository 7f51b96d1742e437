"""History: what was, told from recorded images alone, whatever the code is today: `bus.history`.

Every answer is read in one snapshot of the database, at a settled position, and says what it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import text

from actionbus.core.errors import HistoryArchived, HistoryError
from actionbus.core.history.answers import (
    Basis,
    BisectResult,
    Blame,
    BlamedColumn,
    Changes,
    Differences,
    RowTold,
    State,
    StateStream,
)
from actionbus.core.history.bisecting import copy_of, first_true
from actionbus.core.history.databases import database_of
from actionbus.core.history.declared import read_declared
from actionbus.core.history.differing import Differing
from actionbus.core.history.install import status_of_all
from actionbus.core.history.opened import OpenedPosition
from actionbus.core.history.recorded import RecordedTable
from actionbus.core.history.shapes import TableStatus, TableWanted
from actionbus.core.history.states import Rows
from actionbus.core.history.touched import Pieces, is_touched_more, touched_in
from actionbus.core.history.unseen import RowHistory, is_unseen
from actionbus.core.journal import Journal
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.engines import backend_for, make_engine
from actionbus.core.storage.names import in_text
from actionbus.core.values.change import Change, last_changes
from actionbus.core.values.journal_filter import ANY_TABLE
from actionbus.core.values.points import Point, point_of
from actionbus.core.values.public import public
from actionbus.core.values.record import Record

At = Point | str
"""A position, a time, an action's id, `start` or `end`; None is the end."""
Key = Any
"""A row's key: a value, or a tuple of them."""


@public
class History:
    """The past of recorded tables. `database` is a URL, an Engine, or what a Bus has; no application is needed.

    Tables go by their names; on PostgreSQL without a schema where only one schema has it. Every method raises
    HistoryError where there is nothing to tell, JournalUnavailable where the database has no journal.
    """

    def __init__(
        self,
        database: Any,
        journal: Journal | None = None,
        *,
        schema: str | None = None,
        wanted: Callable[[], Sequence[TableWanted]] = tuple,
    ) -> None:
        if not isinstance(database, Backend):
            is_url = not hasattr(database, "connect")
            engine = make_engine(database) if is_url else database
            database = backend_for(engine, schema, own_engine=is_url)
        self._backend: Backend = database
        self.journal = journal or Journal(database)
        if self.journal.teller.history is None:  # a second History, such as a replay's, takes nobody's place
            self.journal.teller.history = self
        self._wanted = wanted

    def status(self) -> list[TableStatus]:
        """How far each table is recorded: those that an application wants recorded, and all that have a history."""
        self.journal.require()
        with self._backend.connection() as used, database_of(used).images(self._backend, used).snapshot():
            return status_of_all(self._backend, used, self._wanted())

    def basis(self, at: At = None) -> Basis:
        """What is recorded at a point, since when, and what is missing, of all tables; no row is read."""
        with self.opened(at) as opened:
            return opened.basis(opened.bases_of(opened.tables), everything=True)

    def state(self, table: str | None = None, at: At = None, *, after: Key = None, limit: int | None = None) -> State:
        """The rows of a table, or of all, as they were.

        With `limit`, a page of so many rows of one table, in the order of its key, beyond the key `after`: the last one
        of the page before. On PostgreSQL that is the order of the key's text.

        Raises HistoryError for a table or a point that is not there, and HistoryArchived for what lies in an archive.
        """
        with self.streamed(table, at, after=after, limit=limit) as streamed:
            tables = {name: list(rows) for name, rows in streamed}
        return State(tables, streamed.basis)

    @contextmanager
    def streamed(
        self,
        table: str | None = None,
        at: At = None,
        *,
        after: Key = None,
        limit: int | None = None,
        most: int | None = None,
    ) -> Iterator[StateStream]:
        """The same, of however many rows: each table's name and its rows, to be read one after the other.

        What it rests on is in `basis` afterwards. Raises HistoryError, for a page of all tables too, and for one of
        rows that have no order, unless no more than `most` changes are to be read for it: then it has the first found.
        """
        if table is None and (after is not None or limit is not None):
            raise HistoryError("`after` and `limit` page through one table; name it: state('assets', limit=100)")
        with self.opened(at) as opened:
            chosen = opened.chosen(table)
            told = [(each, Rows(opened.images, each, opened.cut)) for each in chosen]
            streamed = StateStream((each.name, rows.columns(after, limit, most)) for each, rows in told)
            streamed.is_ordered = all(rows.is_ordered for _, rows in told)
            yield streamed
            bases = opened.bases_of(chosen, [rows.broken for _, rows in told])
            streamed.basis = opened.basis(bases, everything=table is None)

    def rows(self, table: str, key: Key, at: At = None, *, most: int | None = None) -> Changes:
        """What became of one row: all its changes, oldest first. Raises HistoryError if they are more than `most`."""
        with self.opened(at) as opened:
            _, told, basis = _of_row(opened, table, key, most)
            return Changes(told.changes, basis)

    def blame(self, table: str, key: Key, column: str | None = None, at: At = None) -> Blame:
        """Who gave each column of a row, or one of them, its value; of a row that is gone, who removed it.

        Raises HistoryError for a table, column or point that is not there.
        """
        with self.opened(at) as opened:
            if column is not None:
                _require_column(opened.one(table), column)
            recorded, told, basis = _of_row(opened, table, key)
            found = self._blamed(opened, recorded, key, told.changes)
            return Blame([each for name, each in found.items() if column in (None, name)], basis)

    def row(self, table: str, key: Key, at: At = None, *, most: int | None = None) -> RowTold:
        """Both, of one reading: what became of one row, and who gave each column its value. Raises as `rows` does."""
        with self.opened(at) as opened:
            recorded, told, basis = _of_row(opened, table, key, most)
            found = self._blamed(opened, recorded, key, told.changes)
            return RowTold(told.changes, list(found.values()), basis)

    def _blamed(
        self, opened: OpenedPosition, recorded: RecordedTable, key: Key, changes: Sequence[Change]
    ) -> dict[str, BlamedColumn]:
        """By column, as `blame`; through a baseline that found a value as it had been left."""
        # What was unknown may have become known by a change of other columns, which gave it no value.
        known = (changes[-1].after if changes else None) or {}
        last = last_changes(changes)
        found = {n: BlamedColumn(n, known.get(n), last[n]) for n in recorded.shape.columns if n in last}
        first = changes[0] if changes else None
        source = first.who.source if first else None
        if first is None or first.operation != "baseline" or source is None or source.kind == "archive":
            return found
        before = opened.at(source.position - 1)
        earlier = before.find(recorded.name)
        if (
            earlier is None
            or earlier.shape.key != recorded.shape.key
            or all(each is not first for each in last.values())
        ):
            return found
        left = self._blamed(before, earlier, key, before.of_row(earlier, key).changes)
        return found | {n: left[n] for n, each in found.items() if each.change is first and each.is_same(left.get(n))}

    def diff(self, a: At, b: At = None, table: str | None = None, *, most: int | None = None) -> Differences:
        """The rows that differ between two points: `before` is at `a`, `after` at `b`, whichever of them came first.

        Raises HistoryError if more than `most` changes lie between.
        """
        low, high = self.position(a), None if b is None else self.position(b)
        if high is not None and high < low:
            back = self.diff(high, low, table, most=most)
            return Differences([replace(row, before=row.after, after=row.before) for row in back.rows], back.basis)
        with self.opened(high) as opened:
            before = opened.at(low)
            chosen = opened.chosen(table)
            before.require_told(each.name for each in chosen)
            shapes = [shape for each in chosen for shape in opened.all_of(each)]
            if most is not None and opened.images.count_between(shapes, before.cut, opened.cut, most) > most:
                raise HistoryError(f"more than {most} changes lie between; narrow the range, or name a table")
            differing = [Differing(before, opened, recorded) for recorded in chosen]
            found = [row for each in differing for row in each.rows()]
            bases = opened.bases_of(chosen, [each.broken for each in differing])
            return Differences(found, opened.basis(bases, everything=table is None))

    def changes(self, which: At, *, most: int | None = None) -> Changes:
        """What an action did to rows, or what was written past the gateway at a position.

        Raises HistoryError for an action that is not there or has no outcome yet, and for more changes than `most`.
        """
        record = self._record_of(which) if isinstance(which, UUID) else self.journal.at(self.position(which))
        if record is None:
            raise self._unknown(which)
        outcome = record if record.kind == "bypass" else self.journal.outcome(record.action_id)
        if outcome is None:
            raise HistoryError(f"the action {record.action_id} has no outcome yet")
        with self.opened(outcome.position) as opened:
            source = opened.images.sources([outcome.position])[outcome.position]
            if most is not None and opened.images.is_longer(source, most):
                raise HistoryError(f"more than {most} changes of rows were made at this position; ask for single rows")
            found = opened.images.of_record(opened.shapes, source)
            changes = opened.changes_of(found)
            used = {each.table for each in changes}
            bases = opened.bases_of([each for each in opened.tables if each.name in used])
            return Changes(changes, opened.basis(bases))

    def bisect(self, sql: str, *, good: At = "start", bad: At = None) -> BisectResult:
        """The first position after `good` at which a query's first value is true, by halving up to `bad`.

        The query is the database's own SQL; it sees copies of the recorded tables, by their names without schema, as
        they were. Where what it asks comes and goes, the position found is one at which it came. Raises
        HistoryError for a query of no recorded table.
        """
        with self.opened(bad, with_copies=True) as opened:
            asked = sql.lower().replace('""', '"')
            named = [each for each in opened.tables if each.bare.lower() in asked]
            if not named:
                raise HistoryError(f"the query names no recorded table; there are: {opened.names()}")
            if len({each.bare for each in named}) < len(named):
                names = ", ".join(each.name for each in named)
                raise HistoryError(f"a query goes by names without schema, by which tables are the same here: {names}")
            wanted = [each.name for each in named]
            low = opened.at(max(self.position(good), opened.begins(wanted) if good == "start" else 0))
            low.require_told(wanted)
            touched = opened.images.are_touched([s for each in named for s in opened.all_of(each)], low.cut, opened.cut)
            with copy_of(opened, named) as copy:

                def holds(position: int) -> bool:
                    copy.go(low.at(position))
                    return copy.holds(sql)

                went = opened.what_went(each.name for each in named)
                found, checks, note = first_true(low.cut.position, opened.cut.position, holds, went)
            note = note if touched else "nothing was changed in this range"
            source = opened.images.sources([found])[found] if found is not None else None
            return BisectResult(source, checks, opened.basis(opened.bases_of(named)), note)

    def bisect_row(self, table: str, key: Key, column: str, value: Any, at: At = None) -> BisectResult:
        """The first position at which a row's column had a value, in all that is recorded of it."""
        with self.opened(at) as opened:
            recorded = opened.one(table)
            _require_column(recorded, column)
            told = opened.of_row(recorded, key)
            changes = told.changes
            basis = opened.basis(opened.bases_of([recorded], [told.broken]))
            for _, of_record in groupby(enumerate(changes), key=lambda each: each[1].who.source):
                number, last = list(of_record)[-1]
                held = (last.after or {}).get(column)
                if last.after is not None and (held == value or (isinstance(value, str) and str(held) == value)):
                    note = (
                        "it was given unseen, before this position by which that was noticed" if is_unseen(last) else ""
                    )
                    return BisectResult(told.noticed_by(number), len(changes), basis, note)
            went = opened.what_went([recorded.name])
            since = f" since position {went.upto}; {went.where()}" if went else ""
            return BisectResult(None, len(changes), basis, f"{column} never had that value{since}")

    def touched(self, record: Record, most: int | None = None) -> list[Change]:
        """What a record did to rows; see `Record.touched`. With `most` it must not be to more of them."""
        if record.kind == "submitted" or record.status not in (None, "succeeded"):
            return []
        return self.changes(record.position, most=most).changes

    def positions_of(self, table: str, key: Sequence[Any], after: int, upto: int | None) -> list[int]:
        """The positions beyond `after` at which a table (or ANY_TABLE), or a row, was changed; none if it never was."""
        end = self.journal.settled()
        with self.opened(end if upto is None else min(upto, end)) as opened:
            shapes = opened.shapes_of(table) if table != ANY_TABLE else opened.all_shapes()
            begun = opened.images.archived()
            after = max(after, begun.upto if begun else 0)
            if not key:
                low = opened.images.cut(after, is_end=False)
                return opened.images.positions(shapes, low, opened.cut) if shapes else []
            try:
                low = opened.images.cut(after, is_end=False)
                since = min([low.image, *(image - 1 for image in opened.images.later(low))])
                images = opened.images.of_row(shapes, shapes[-1].parts_of(key), since, opened.cut) if shapes else []
            except ValueError:
                return []  # no row has such a key
            return sorted({each.position for each in images if each.position is not None and each.position > after})

    def few_positions_of(self, table: str, key: Sequence[Any], after: int, upto: int, most: int) -> list[int] | None:
        """The same, unless there are more changes than `most`, of a row in all: then None, and they are not read."""
        with self.opened(min(upto, self.journal.settled())) as opened:
            shapes = opened.shapes_of(table) if table != ANY_TABLE else opened.all_shapes()
            try:
                if shapes and is_touched_more(opened.images, shapes, key, after, opened.cut, most):
                    return None
            except ValueError:
                return []
        return self.positions_of(table, key, after, upto)

    def positions_in(self, table: str, key: Sequence[Any], pieces: Pieces, most: int) -> list[int]:
        """The same in pieces of history, as far as so many changes in each of them tell: a sample."""
        with self.opened(self.journal.settled()) as opened:
            shapes = opened.shapes_of(table) if table != ANY_TABLE else opened.all_shapes()
            try:
                return touched_in(opened.images, shapes, key, pieces, most) if shapes else []
            except ValueError:
                return []

    def personal(self) -> dict[str, frozenset[str]]:
        """The columns of each table that are or were personal, by the name that its history has."""
        declared = self._backend.read(lambda connection: read_declared(connection, self._backend.prefix))
        return {name: frozenset(each.personal) for name, each in declared.items()}

    def position(self, at: At) -> int:
        """What names a point in history, as a position. Raises HistoryError."""
        try:
            point = point_of(at) if isinstance(at, str) else at
        except ValueError as error:
            raise HistoryError(str(error)) from None
        if point is None:
            return self.journal.settled()
        if at == "start":
            return self.journal.begins.position()
        if isinstance(point, datetime):
            return self.journal.last_before(point)
        return self._record_of(point).position if isinstance(point, UUID) else point

    def ranges(self, low: int, high: int) -> dict[int, tuple[int | None, int | None]]:
        """Of the records between two positions, after which image theirs come, and the last there was."""
        sql = f"SELECT position, images_after, images_upto FROM {in_text(self._backend.journal_name)} "
        where = text(f"{sql} WHERE position BETWEEN :low AND :high")
        with self._backend.connection() as connection, self._backend.placed(connection):
            rows = connection.execute(where, {"low": low, "high": high}).all()
        return {position: (after, upto) for position, after, upto in rows}

    def _record_of(self, action_id: UUID) -> Record:
        record = self.journal.get(action_id)
        if record is None:
            raise self._unknown(action_id)
        return record

    def _unknown(self, which: object) -> HistoryError:
        archive = self.journal.begins.archive()
        if archive is not None and not (isinstance(which, int) and which > archive.upto):
            return HistoryArchived(f"{_no_action(which)}; {archive.where()}")
        return HistoryError(_no_action(which))

    @contextmanager
    def opened(self, at: At, *, with_copies: bool = False) -> Iterator[OpenedPosition]:
        """One snapshot of the database at a point, waited for until it is settled; for whoever reads images itself.

        Raises HistoryError for a point that is not there yet.
        """
        self.journal.require()
        end = self.journal.settled()
        position = end if at is None or at == "end" else self.position(at)
        if position > end:
            end = self.journal.settled(wait=True)
            if position > end:
                raise HistoryError(f"there is no position {position} yet; the journal ends at {end}")
        with self._backend.connection() as connection:
            database = database_of(connection)
            images = database.images(self._backend, connection)
            with images.snapshot(with_copies=with_copies):
                is_end = position == images.end()
                shapes = database.shapes(connection, self._backend.prefix)
                yield OpenedPosition(images, shapes, images.cut(position, is_end=is_end), self._wanted())


def _no_action(which: object) -> str:
    return f"the journal has no action {which}; `actionbus log` shows the latest"


def _of_row(
    opened: OpenedPosition, table: str, key: Key, most: int | None = None
) -> tuple[RecordedTable, RowHistory, Basis]:
    """What became of one row, and what that rests on."""
    recorded = opened.one(table)
    if most is not None:
        opened.require_at_most(most, recorded, key)
    told = opened.of_row(recorded, key)
    return recorded, told, opened.basis(opened.bases_of([recorded], [told.broken]))


def _require_column(recorded: RecordedTable, column: str) -> None:
    if column in recorded.shape.columns:
        return
    withheld = " (it is withheld)" if column in recorded.shape.withheld else ""
    raise HistoryError(
        f"{recorded.name} has no recorded column {column!r}{withheld}; it has: {', '.join(recorded.shape.columns)}"
    )
