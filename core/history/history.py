"""History: what was, told from recorded images alone, whatever the code is today: `bus.history`.

Every answer is read in one snapshot of the database, at a settled position, and says what it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from actionbus.core.errors import HistoryError
from actionbus.core.history.answers import (
    Basis,
    Bisected,
    Blame,
    Blamed,
    Changes,
    Difference,
    Differences,
    Gap,
    State,
    TableBasis,
)
from actionbus.core.history.bisecting import Copy, copy_of, first_true
from actionbus.core.history.databases import database_of
from actionbus.core.history.doubts import doubts_of
from actionbus.core.history.fold import Broken, Fold, Folded, as_of, by_table, chained
from actionbus.core.history.images import Cut, Image, Images, Residual
from actionbus.core.history.install import status_of_all
from actionbus.core.history.recorded import Recorded
from actionbus.core.history.shapes import Shape, TableStatus, TableWanted
from actionbus.core.journal import Journal
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.engines import backend_for, make_engine
from actionbus.core.values.change import Change, Columns, Who
from actionbus.core.values.points import Point, point_of
from actionbus.core.values.record import Record

At = Point | str
"""A position, a time, an action's id, `start` or `end`; None is the end."""
Key = Any
"""A row's key: a value, or a tuple of them."""
_OPERATIONS: Final = {"i": "insert", "u": "update", "d": "delete", "b": "baseline", "!": "gap"}


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
        self.journal.teller.history = self
        self._wanted = wanted

    def status(self) -> list[TableStatus]:
        """How far each table is recorded: those that an application wants recorded, and all that have a history."""
        self.journal.require()
        with self._backend.connection() as used, database_of(used).images(self._backend, used).snapshot():
            return status_of_all(self._backend, used, self._wanted())

    def state(self, table: str | None = None, at: At = None) -> State:
        """The rows of a table, or of all, as they were."""
        with self._open(at) as opened:
            tables, bases = {}, []
            for recorded in opened.chosen(table):
                folded = self._folded(opened, recorded)
                tables[recorded.name] = [
                    recorded.columns_of(each.shape, each.row) for each in folded.rows for _ in range(each.times)
                ]
                bases.append(opened.basis_of(recorded, folded.broken))
            return State(tables, opened.basis(bases, everything=table is None))

    def rows(self, table: str, key: Key, at: At = None) -> Changes:
        """What became of one row: all its changes, oldest first."""
        with self._open(at) as opened:
            recorded = opened.one(table)
            return Changes(opened.of_row(recorded, key), opened.basis([opened.basis_of(recorded)]))

    def blame(self, table: str, key: Key, column: str | None = None, at: At = None) -> Blame:
        """Who gave each column of a row, or one of them, its value; of a row that is gone, who removed it."""
        with self._open(at) as opened:
            recorded = opened.one(table)
            if column is not None:
                _require_column(recorded, column)
            last: dict[str, Blamed] = {}
            for change in opened.of_row(recorded, key):
                known = change.after or {}
                last = {n: each for n, each in last.items() if n in known} if change.after else {}
                changed = change.columns() if change.after else list(change.before or {})
                last |= {n: Blamed(n, known.get(n), change) for n in changed}
            wanted = [n for n in recorded.shape.columns if n in last and column in (None, n)]
            return Blame([last[n] for n in wanted], opened.basis([opened.basis_of(recorded)]))

    def diff(self, a: At, b: At = None, table: str | None = None) -> Differences:
        """The rows that differ between two points: `before` is at the first, `after` at the other."""
        with self._open(b) as opened:
            before = opened.at(self.position(a))
            found: list[Difference] = []
            bases = []
            for recorded in opened.chosen(table):
                earlier = before.find(recorded.name)
                folded = self._differing(opened, recorded, earlier, before)
                found += _paired(recorded, folded)
                bases.append(opened.basis_of(recorded))
            return Differences(found, opened.basis(bases, everything=table is None))

    def changes(self, which: At) -> Changes:
        """What an action did to rows, or what was written past the gateway at a position."""
        record = self._record_of(which) if isinstance(which, UUID) else self.journal.at(self.position(which))
        if record is None:
            raise HistoryError(_no_action(which))
        outcome = record if record.kind == "bypass" else self.journal.outcome(record.action_id)
        if outcome is None:
            raise HistoryError(f"the action {record.action_id} has no outcome yet")
        with self._open(outcome.position) as opened:
            source = opened.images.sources([outcome.position])[outcome.position]
            found = opened.images.of_record(opened.shapes, source)
            changes = opened.changes_of(found)
            used = {each.table for each in changes}
            bases = [opened.basis_of(each) for each in opened.tables if each.name in used]
            return Changes(changes, opened.basis(bases))

    def bisect(self, sql: str, *, good: At = 0, bad: At = None) -> Bisected:
        """The first position after `good` at which a query's first value is true, by halving up to `bad`.

        The query is the database's own SQL; it sees copies of the recorded tables, by their names without schema, as
        they were. Where what it asks comes and goes, the position found is one at which it came.
        """
        with self._open(bad) as opened:
            low = opened.at(self.position(good))
            named = [each for each in opened.tables if each.bare.lower() in sql.lower()]
            if not named:
                raise HistoryError(f"the query names no recorded table; there are: {opened.names()}")
            positions = opened.images.positions([s for each in named for s in each.shapes], low.cut, opened.cut)
            with copy_of(opened.images, named) as copy:
                found, checks, note = first_true(
                    positions, low.cut.position, lambda p: self._holds(copy, opened.at(p), [e.name for e in named], sql)
                )
            source = opened.images.sources([found])[found] if found is not None else None
            return Bisected(source, checks, opened.basis([opened.basis_of(each) for each in named]), note)

    def bisect_row(self, table: str, key: Key, column: str, value: Any, at: At = None) -> Bisected:
        """The first position at which a row's column had a value, in all that is recorded of it."""
        with self._open(at) as opened:
            recorded = opened.one(table)
            _require_column(recorded, column)
            changes = opened.of_row(recorded, key)
            basis = opened.basis([opened.basis_of(recorded)])
            for _, of_record in groupby(changes, key=lambda each: each.who.source):
                after = list(of_record)[-1]
                held = (after.after or {}).get(column)
                if after.after is not None and (held == value or (isinstance(value, str) and str(held) == value)):
                    return Bisected(after.who.source, len(changes), basis)
            return Bisected(None, len(changes), basis, f"{column} never had that value")

    def touched(self, record: Record) -> list[Change]:
        """What a record did to rows; see `Record.touched`."""
        if record.kind == "submitted" or record.status not in (None, "succeeded"):
            return []
        return self.changes(record.position).changes

    def positions_of(self, table: str, key: Sequence[Any], after: int, upto: int | None) -> list[int]:
        """The positions beyond `after` at which a table, or one of its rows, was changed; none if it never was."""
        end = self.journal.settled()
        with self._open(end if upto is None else min(upto, end)) as opened:
            shapes = opened.shapes_of(table)
            if not key:
                low = opened.images.cut(after, is_end=False)
                return opened.images.positions(shapes, low, opened.cut) if shapes else []
            try:
                images = opened.images.of_row(shapes, tuple(key), 0, opened.cut)
            except ValueError:
                return []  # no row has such a key
            return sorted({each.position for each in images if each.position is not None and each.position > after})

    def images(self, after: int, upto: int) -> tuple[Mapping[int, Shape], list[Image]]:
        """What was recorded of rows beyond one settled position up to another, as it was written; and all shapes.

        For what runs actions again and compares (`actionbus.replay`); whoever asks what was asks `changes`.
        """
        with self._open(upto) as opened:
            shapes = {each.shape: each for each in opened.shapes}
            low = opened.images.cut(after, is_end=False)
            return shapes, opened.images.between(opened.shapes, low, opened.cut)

    def beginnings(self) -> dict[str, int]:
        """The position from which each table is known: its first baseline's; or what there was when it began empty."""
        with self._open(None) as opened:
            first = {name: shapes[0] for name, shapes in opened.recorded_tables().items()}
            places = {name: opened.images.place_of(shape) for name, shape in first.items()}
        return {
            name: self.journal.last_before(first[name].since) if place is None else place
            for name, place in places.items()
        }

    def held(self, at: At) -> Iterator[tuple[Recorded, Folded]]:
        """Each table with the rows that it held, as they were written; for what puts them elsewhere."""
        with self._open(at) as opened:
            for recorded in opened.tables:
                yield recorded, self._folded(opened, recorded)

    def position(self, at: At) -> int:
        """What names a point in history, as a position. Raises HistoryError."""
        try:
            point = point_of(at) if isinstance(at, str) else at
        except ValueError as error:
            raise HistoryError(str(error)) from None
        if point is None:
            return self.journal.settled()
        if isinstance(point, datetime):
            return self.journal.last_before(point)
        return self._record_of(point).position if isinstance(point, UUID) else point

    def _record_of(self, action_id: UUID) -> Record:
        record = self.journal.get(action_id)
        if record is None:
            raise HistoryError(_no_action(action_id))
        return record

    @contextmanager
    def _open(self, at: At) -> Iterator[_Opened]:
        """One snapshot, and the position asked for, which is waited for until it is settled."""
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
            with images.snapshot():
                is_end = position == images.rows_of("SELECT coalesce(max(position), 0) FROM {home}journal")[0][0]
                shapes = database.shapes(connection, self._backend.prefix)
                yield _Opened(images, shapes, images.cut(position, is_end=is_end), self._wanted())

    def _folded(self, opened: _Opened, recorded: Recorded) -> Folded:
        residue = opened.images.residue(recorded.shapes, recorded.since_image, opened.cut)
        return Fold(recorded.shapes, opened.images.values).settle(residue)

    def _differing(
        self, opened: _Opened, recorded: Recorded, earlier: Recorded | None, before: _Opened
    ) -> list[Residual]:
        """What was put there and taken away; where a baseline lies between, what differs between the states."""
        fold = Fold(recorded.shapes, opened.images.values)
        if earlier is not None and earlier.since_image == recorded.since_image:
            since = recorded.since_image
            residue = opened.images.residue(recorded.shapes, since, opened.cut, before.cut)
            return fold.reconciled(list(residue))
        there = self._folded(before, earlier).rows if earlier is not None else []
        left = {(each.shape, each.row): each for each in self._folded(opened, recorded).rows}
        gone = [each._replace(times=-1) for each in there if left.pop((each.shape, each.row), None) is None]
        return Fold(recorded.shapes if earlier is None else opened.all_of(recorded), opened.images.values).reconciled(
            [*left.values(), *gone]
        )

    def _holds(self, copy: Copy, opened: _Opened, names: Sequence[str], sql: str) -> bool:
        for name in names:
            recorded = opened.find(name)
            rows = self._folded(opened, recorded).rows if recorded else []
            copy.fill(name, rows, opened.images.values)
        return copy.holds(sql)


class _Opened:
    """One position within one snapshot."""

    def __init__(self, images: Images, shapes: Sequence[Shape], cut: Cut, wanted: Sequence[TableWanted] = ()) -> None:
        self._wanted = wanted
        self.images = images
        self.shapes = shapes
        self.cut = cut
        self._by_table = by_table(shapes)
        recorded = (Recorded.of(images, found, cut) for found in self._by_table.values())
        self.tables = [each for each in recorded if each is not None]

    def at(self, position: int) -> _Opened:
        """Another position in the same snapshot."""
        return _Opened(self.images, self.shapes, self.images.cut(position, is_end=False))

    def all_of(self, recorded: Recorded) -> list[Shape]:
        """All shapes of its table, forgotten ones too."""
        return self._by_table[recorded.name]

    def shapes_of(self, table: str) -> list[Shape]:
        """All shapes of the tables of that name; none if there was none."""
        return [s for name, shapes in self._by_table.items() if table in (name, name.partition(".")[2]) for s in shapes]

    def recorded_tables(self) -> Mapping[str, list[Shape]]:
        """The shapes of each table, oldest first."""
        return self._by_table

    def names(self) -> str:
        """The tables that there are, for people."""
        return ", ".join(self._by_table) or "none yet; `actionbus history install` begins"

    def find(self, name: str) -> Recorded | None:
        """A table by its whole name, if its history had begun."""
        return next((each for each in self.tables if each.name == name), None)

    def chosen(self, table: str | None) -> list[Recorded]:
        """The table asked for, or all."""
        return self.tables if table is None else [self.one(table)]

    def one(self, table: str) -> Recorded:
        """The table asked for. Raises HistoryError."""
        named = [name for name in self._by_table if table in (name, name.partition(".")[2])]
        if not named:
            raise HistoryError(f"no table {table!r} was ever recorded; recorded are: {self.names()}")
        if len(named) > 1:
            raise HistoryError(f"{table!r} may be {' or '.join(named)}; say which")
        if (found := self.find(named[0])) is None:
            first = self._by_table[named[0]][0]
            raise HistoryError(
                f"the history of {named[0]} begins at {first.since:%Y-%m-%d %H:%M:%S} UTC, after position "
                f"{self.cut.position}: nothing is known of it before"
            )
        return found

    def of_row(self, recorded: Recorded, key: Key) -> list[Change]:
        """The changes of one row. Raises HistoryError."""
        parts = key if isinstance(key, tuple) else (key,)
        names = recorded.shape.key
        if not names:
            raise HistoryError(f"{recorded.name} has no key, so that no row of it can be named; ask for its state")
        if len(parts) != len(names):
            raise HistoryError(f"the key of {recorded.name} has {len(names)} parts: {', '.join(names)}; not {parts!r}")
        try:
            images = self.images.of_row(recorded.shapes, parts, recorded.since_image, self.cut)
        except ValueError as error:
            told = ",".join(map(str, parts))
            raise HistoryError(f"{told!r} is no key of {recorded.name} ({', '.join(names)}): {error}") from None
        return self.changes_of(images)

    def changes_of(self, images: Sequence[Image]) -> list[Change]:
        """Images as changes, in the order of their records, those of one row within one as they followed."""
        last = 2**63
        ordered = sorted(images, key=lambda each: (each.position or last, each.image))
        sources = self.images.sources([each.position for each in ordered if each.position is not None])
        known = {shape.shape: shape for shape in self.shapes}
        found: list[Change] = []
        for _, of_record in groupby(ordered, key=lambda each: each.position):
            group = list(of_record)
            keyed = {(known[each.shape].table_name, each.key) for each in group}
            for image in chained(group) if len(keyed) == 1 and len(group) > 1 else group:
                found.append(self._change(image, known[image.shape], sources))
        return found

    def _change(self, image: Image, shape: Shape, sources: Any) -> Change:
        recorded = self.find(shape.table_name)
        under = recorded.shape if recorded else shape
        before, after = (
            None if row is None else as_of(under, shape, self.images.values(shape, row))
            for row in (image.before, image.after)
        )
        source = sources.get(image.position) if image.position is not None else None
        is_own = source is not None and source.kind != "bypass" and source.action_id.hex == image.claimed
        claimed = None if is_own else image.claimed
        who = Who(source, image.at or (source.at if source else None), claimed)
        whole = after or before or {}
        key = {name: whole[name] for name in under.key if name in whole}
        return Change(shape.table_name, _OPERATIONS[image.operation], before, after, who, key)

    def basis_of(self, recorded: Recorded, broken: Sequence[Broken] = ()) -> TableBasis:
        """How far one table's history reaches, and what is missing in it."""
        shape, gaps = recorded.shape, []
        for each in broken:
            columns = recorded.columns_of(each.rows[0].shape, each.rows[0].row)
            key = {name: columns[name] for name in shape.key}
            gaps.append(
                Gap(recorded.name, key, None, "it was changed unseen: its images do not follow from each other")
            )
        for image in self.images.unrecorded(recorded.shapes, recorded.since_image, self.cut):
            gaps.append(Gap(recorded.name, {}, image.position, "a change could not be recorded"))
        return TableBasis(
            recorded.name, recorded.since, recorded.since_position, shape.columns, shape.withheld, tuple(gaps),
            *doubts_of(self.images, recorded, self.cut),
        )  # fmt: skip

    def basis(self, tables: Sequence[TableBasis], *, everything: bool = False) -> Basis:
        """What an answer about these tables rests on."""
        begun = {each.name for each in self.tables}
        missing = [name for name in self._by_table if name not in begun] if everything else []
        missing += [each.name for each in self._wanted if everything and not self._was_recorded(each)]
        bypasses = self.images.count_bypasses(self.cut)
        waiting = self.images.waiting() if self.cut.is_end else 0
        return Basis(self.cut.position, tuple(tables), tuple(missing), bypasses, waiting)

    def _was_recorded(self, wanted: TableWanted) -> bool:
        names = (f"{wanted.schema}.{wanted.name}",) if wanted.schema else (wanted.name,)
        return any(each in names or (not wanted.schema and each.partition(".")[2] in names) for each in self._by_table)


def _paired(recorded: Recorded, residue: Sequence[Residual]) -> list[Difference]:
    rows: dict[Any, list[Columns | None]] = {}
    for number, each in enumerate(residue):
        key = each.key if recorded.shape.key else number
        pair = rows.setdefault(key, [None, None])
        pair[each.times > 0] = recorded.columns_of(each.shape, each.row)
        for _ in range(abs(each.times) - 1):
            rows.setdefault((number, _), [None, None])[each.times > 0] = pair[each.times > 0]
    found = []
    for before, after in rows.values():
        whole = after or before or {}
        found.append(Difference(recorded.name, {name: whole[name] for name in recorded.shape.key}, before, after))
    return found


def _no_action(which: object) -> str:
    return f"the journal has no action {which}; `actionbus log` shows the latest"


def _require_column(recorded: Recorded, column: str) -> None:
    if column in recorded.shape.columns:
        return
    withheld = " (it is withheld)" if column in recorded.shape.withheld else ""
    raise HistoryError(
        f"{recorded.name} has no recorded column {column!r}{withheld}; it has: {', '.join(recorded.shape.columns)}"
    )
