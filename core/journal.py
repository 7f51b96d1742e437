"""Journal, the append-only table as applications read it: `bus.journal`. Nothing here writes a record but `create`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final, Unpack
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, func, inspect, or_, select

from actionbus.core.errors import ConfigurationError, JournalUnavailable
from actionbus.core.storage import ddl
from actionbus.core.storage.archives import Beginning
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.by_value import ByValue, Positions, first_caused, indexed, positions, positions_in
from actionbus.core.storage.conditions import aware, conditions_of, is_any
from actionbus.core.storage.missing import NO_JOURNAL
from actionbus.core.storage.moments import ROOM, Moments, moved
from actionbus.core.storage.reader import SettledReader
from actionbus.core.storage.records import Records
from actionbus.core.storage.row_decoding import columns_to_read
from actionbus.core.storage.stretches import Stretch
from actionbus.core.storage.table import identity_table
from actionbus.core.storage.totals import told, totals
from actionbus.core.storage.unfinished import unfinished
from actionbus.core.storage.windows import Window, near
from actionbus.core.values.details import JournalStats
from actionbus.core.values.identifiers import AnyId, action_id_of
from actionbus.core.values.journal_filter import EVERYTHING, Filters, JournalFilter, Touching
from actionbus.core.values.public import public
from actionbus.core.values.record import Kind, Record, Teller

_AT_ONCE: Final = 500
"""Positions asked for by one statement."""
_CAUSES_AT_ONCE: Final = 50
_WALKED: Final = 20_000
"""In a range of fewer positions each record is looked at, rather than an index."""


@public
class Journal:
    """Reads records in the order of their positions, and never past one that might still appear, or be taken back.

    So do `read`, `tail` and `settled`. The rest answers about this moment, beyond what is settled too: `get` and others
    that look for one action, which is how the gateway finds its own, and counts. What they show of an action that has
    no outcome yet, a crash of the database's server may take back; an outcome it does not, since that is flushed
    before anybody sees it. To follow the journal, read it in order.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.teller = Teller()
        """Behind which a History takes its place, for what rows became."""
        self._records = Records(backend, self.teller)
        self._table = self._records.table
        self._reader = SettledReader(backend, self._table, columns_to_read(self._table))
        self._moments = Moments(backend)
        self.begins = Beginning(backend)
        """Where the first record is that is here: what comes before may be archived."""

    @property
    def backend(self) -> Backend:
        """The database that it is in."""
        return self._backend

    @property
    def dialect(self) -> str:
        """`postgresql` or `sqlite`."""
        return self._backend.engine.dialect.name

    def create(self) -> None:
        """Create the journal's tables where they are not there; `actionbus db upgrade` does so too, and migrates.

        A journal that is there already is left as it is. Safe when several processes call it at once.
        """
        with self._backend.engine.begin() as connection:
            ddl.begin_alone(connection)
            if not inspect(connection).has_table("journal", schema=self._backend.schema):
                ddl.create(connection, self._backend.schema)

    def exists(self) -> bool:
        """Whether the table is there."""
        return self._backend.read(lambda c: inspect(c).has_table("journal", schema=self._backend.schema))

    def read(
        self,
        after: int = 0,
        limit: int | None = None,
        *,
        upto: int | None = None,
        wait: bool = True,
        where: JournalFilter = EVERYTHING,
        **filters: Unpack[Filters],
    ) -> Iterator[Record]:
        """Records beyond position `after` and no further than `upto`, oldest first, at most `limit`, in bounded memory.

        `where`, and the same fields as keywords, narrow them: see JournalFilter. Only settled records come: at
        a position that a writer has drawn and not yet committed the reader waits, or stops there with `wait=False`.
        What is committed and not yet flushed by the server is flushed before it is shown.
        """
        asked = replace(where, **filters)
        if after:
            self.begins.require(after)
        conditions = conditions_of(asked, self._table, self._backend.comparable)
        after, upto = self.between(asked, after, upto)
        if asked.touching is not None:
            yield from self._touching(asked.touching, after, limit, upto, conditions)
            return
        wanted = indexed(asked)
        if wanted is not None and (end := self._reader.end(upto)) - after > _WALKED:
            yield from self._by_value(wanted, asked, after, limit, self._reader.settled_upto(end, wait=wait))
            return
        yield from self._records.rows_in_clear(self._reader.rows(after, upto, limit, conditions, wait=wait))

    def stretch(self, after: int, upto: int, where: JournalFilter = EVERYTHING, *, limit: int, room: int) -> Stretch:
        """The next rows beyond `after` up to `upto`, which must be settled: `limit` of them, or about `room` bytes.

        For whoever follows the journal and shares what he reads with others: each makes his own records of the rows.
        """
        return self._reader.stretch(after, upto, where, limit=limit, room=room)

    def records_in(self, rows: Sequence[Sequence[Any]]) -> list[Record]:
        """Records of the rows of a stretch, decoded as far as somebody asks for what is in them."""
        return self._records.lazily(rows)

    def as_stored(self, after: int = 0, *, upto: int | None = None) -> Iterator[Record]:
        """The same of a range as they stand in the table, personal values encrypted: to be carried with their keys."""
        return map(self._records.decode, self._reader.rows(after, upto, None, [], wait=True))

    def _by_value(
        self, wanted: ByValue, asked: JournalFilter, after: int, limit: int | None, upto: int
    ) -> Iterator[Record]:
        """The records that an index leads to."""
        left: float = math.inf if limit is None else limit
        while after < upto and left > 0:
            found = self.positions_with(wanted, after, upto, _AT_ONCE, newest_first=False)
            for record in self.chosen(found.found, asked):
                if left <= 0:
                    return
                yield record
                left -= 1
            if found.reached is None:
                return
            after = found.reached

    def positions_with(
        self, wanted: ByValue, low: int, high: int, most: int, *, newest_first: bool = True
    ) -> Positions:
        """About `most` positions of records with a value, from one end of the range beyond `low` up to `high`."""
        return self._backend.read(
            lambda connection: positions(connection, self._table, wanted, low, high, most, newest_first=newest_first)
        )

    def _touching(
        self,
        touching: Touching,
        after: int,
        limit: int | None,
        upto: int | None,
        conditions: Sequence[ColumnElement[bool]],
    ) -> Iterator[Record]:
        """The records at the positions at which a table or row was changed."""
        table, *key = touching
        positions = self.teller.needed().positions_of(table, key, after, upto)
        position = self._table.c.position
        for start in range(0, len(positions), _AT_ONCE):
            chosen = position.in_(positions[start : start + _AT_ONCE])
            found = self._records.fetch(self._records.select().where(chosen, *conditions).order_by(position))
            yield from found if limit is None else found[:limit]
            limit = None if limit is None else limit - len(found)
            if limit is not None and limit <= 0:
                return

    def tail(self, count: int, *, kind: Kind | Collection[Kind] | None = None) -> list[Record]:
        """The last `count` settled records, oldest first."""
        position = self._table.c.position
        conditions = [position <= self.settled(), *([is_any(self._table.c.kind, kind)] if kind else [])]
        return self._records.fetch(self._records.select().where(*conditions).order_by(position.desc()).limit(count))[
            ::-1
        ]

    def settled(self, *, wait: bool = False, patience: float | None = None) -> int:
        """The position up to which no record can appear any more, nor be lost in a crash; 0 while there is none.

        With `wait`, the writers that stand in the way now are waited for, `patience` seconds at most if it is given.
        """
        return self._reader.settled(wait=wait, patience=patience)

    def count(self, after: int = 0, upto: int | None = None, *, kind: Kind | None = "outcome") -> int:
        """How many records there are in a range; of one kind, or of all with None."""
        c = self._table.c
        conditions = [c.position > after, *([c.position <= upto] if upto is not None else [])]
        conditions += [c.kind == kind] if kind is not None else []
        counted = select(func.count()).select_from(self._table).where(*conditions)
        return self._backend.read(lambda connection: connection.execute(counted).scalar_one())

    def last(self) -> int:
        """The last position that can be seen, settled or not, flushed or not; 0 while there is none."""
        return self._reader.last()

    def identity(self) -> str:
        """What tells this journal from every other; it stays with a dump and its restoration."""
        identity = select(identity_table(self._backend.schema).c.identity)
        found: str = self._backend.read(lambda connection: connection.execute(identity).scalar_one())
        return found

    def last_before(self, moment: datetime) -> int:
        """The last position recorded at or before a time; 0 if there is none."""
        c, when = self._table.c, aware(moment)
        (high,) = self.positions_at([moved(when, ROOM)])
        recorded = select(c.position).where(c.position <= high, c.recorded_at <= self._time(when))
        last = recorded.order_by(c.position.desc()).limit(1)
        return self._backend.read(lambda connection: connection.execute(last).scalar() or 0)

    def positions_at(self, moments: Sequence[datetime]) -> list[int]:
        """For each time a position up to which records are older; see `storage.moments`, also for how exact that is."""
        times, end = [aware(each) for each in moments], self.last()
        return self._backend.read(lambda connection: self._moments.before(connection, times, end))

    def between(self, where: JournalFilter, after: int = 0, upto: int | None = None) -> tuple[int, int | None]:
        """Beyond which position, and up to which, what a filter wants by its times is to be looked for."""
        asked = [(where.since, -ROOM), (where.until, ROOM)]
        given = [moved(aware(moment), room) for moment, room in asked if moment is not None]
        found = iter(self.positions_at(given) if given else ())
        if where.since is not None:
            after = max(after, next(found))
        if where.until is not None:
            high = next(found)
            upto = high if upto is None else min(upto, high)
        return after, upto

    def window(
        self,
        low: int,
        high: int,
        where: JournalFilter = EVERYTHING,
        *,
        limit: int,
        most: int,
        newest_first: bool = True,
        brief: int | None = None,
        opened: bool = True,
    ) -> Window:
        """Of the `most` records next to one end of the range beyond `low` up to `high`, those wanted, at most `limit`.

        So it takes as long whatever is looked for. Of what is wanted by what it touched nothing is known here. `brief`
        is as for `columns_to_read`; with `opened=False` personal values stay encrypted.
        """
        wanted, counted = near(
            self._table, low, high, where, limit, most, newest_first, brief, self._backend.comparable
        )
        records = self._records.fetch(wanted, opened=opened)
        if len(records) == limit:
            return Window(records, records[-1].position, is_all=False)
        count, reached = self._backend.read(lambda connection: connection.execute(counted).one())
        if count < most:
            return Window(records, low if newest_first else high, is_all=True)
        return Window(records, reached, is_all=False)

    def chosen(
        self,
        positions: Sequence[int],
        where: JournalFilter = EVERYTHING,
        *,
        brief: int | None = None,
        opened: bool = True,
    ) -> list[Record]:
        """Those of a few positions that are wanted, oldest first."""
        position = self._table.c.position
        conditions = conditions_of(where, self._table, self._backend.comparable)
        columns = columns_to_read(self._table, brief=brief)
        wanted = select(*columns).where(position.in_(positions), *conditions).order_by(position)
        return self._records.fetch(wanted, opened=opened)

    def outlast_writers(self) -> None:
        """Wait until all who were appending records when this was called have ended."""
        self._reader.outlast_writers()

    def look_again(self, known: int = 0) -> None:
        """Forget how far the journal is settled beyond `known`: the database may have been replaced by an older one."""
        self._reader.forget(known)

    def waiting_for(self) -> list[str]:
        """The transactions that a reader would wait for now, described for an operator; empty if there is no hole."""
        return self._reader.waiting_for()

    def get(self, action_id: AnyId, connection: Connection | None = None) -> Record | None:
        """An action's outcome, or its submitted record while it has none; None if it was never submitted."""
        found = self.of_action(action_id, connection)
        return found[-1] if found else None

    def of_action(self, action_id: AnyId, connection: Connection | None = None, *, opened: bool = True) -> list[Record]:
        """An action's records, submitted and outcome, as far as there are; oldest first."""
        is_it = self._table.c.action_id == action_id_of(action_id)
        wanted = self._records.select().where(is_it).order_by(self._table.c.position)
        return self._records.fetch(wanted, connection, opened=opened)

    def at(self, position: int, *, opened: bool = True) -> Record | None:
        """The record at a position, or None."""
        found = self._records.fetch(self._records.select().where(self._table.c.position == position), opened=opened)
        return found[0] if found else None

    def caused_by(self, action_ids: Sequence[UUID], most: int) -> dict[UUID, tuple[list[Record], bool]]:
        """Of each of these actions the first ones that it caused, at most so many, and whether it caused more.

        Of each one record, the outcome if there is one; brief, and with personal values encrypted.
        """
        found: dict[UUID, tuple[list[Record], bool]] = {}
        for start in range(0, len(action_ids), _CAUSES_AT_ONCE):
            chosen = action_ids[start : start + _CAUSES_AT_ONCE]
            first = first_caused(self.dialect, self._table, chosen, most + 1)
            positions = self._backend.read(partial(positions_in, first))
            for record in self.chosen(positions, brief=0, opened=False):
                assert record.cause_id is not None
                known, _ = found.setdefault(record.cause_id, ([], False))
                found[record.cause_id] = (known, True) if len(known) == most else ([*known, record], False)
        return found

    def history(self, action_id: AnyId) -> list[Record]:
        """An action's records and those of the actions it caused, at any depth, oldest first."""
        found: dict[int, Record] = {}
        wanted, asked = {action_id_of(action_id)}, set[UUID]()
        while new := wanted - asked:
            is_one = or_(self._table.c.action_id.in_(new), self._table.c.cause_id.in_(new))
            records = self._records.fetch(self._records.select().where(is_one))
            asked |= new
            found |= {record.position: record for record in records}
            wanted |= {record.action_id for record in records}
        return [found[position] for position in sorted(found)]

    def submitted(self, action_id: AnyId, *, opened: bool = True) -> Record | None:
        """What was asked, for an action's id; None if it was never submitted."""
        is_it = and_(self._table.c.action_id == action_id_of(action_id), self._table.c.kind == "submitted")
        found = self._records.fetch(self._records.select().where(is_it), opened=opened)
        return found[0] if found else None

    def versions(self, after: int = 0, upto: int | None = None) -> list[tuple[str, int, int]]:
        """Which handler versions succeeded in a range: action, version, position of the last such outcome."""
        c = self._table.c
        conditions = [c.kind == "outcome", c.status == "succeeded", c.position > after, c.handler_version.is_not(None)]
        conditions += [c.position <= upto] if upto is not None else []
        found = select(c.action, c.handler_version, func.max(c.position)).where(*conditions)
        found = found.group_by(c.action, c.handler_version).order_by(c.action)
        rows = self._backend.read(lambda connection: connection.execute(found).all())
        return [(action, version, position) for action, version, position in rows]

    def outcome(self, action_id: AnyId, connection: Connection | None = None) -> Record | None:
        """An action's outcome, or None."""
        is_it = and_(self._table.c.action_id == action_id_of(action_id), self._table.c.kind == "outcome")
        found = self._records.fetch(self._records.select().where(is_it), connection)
        return found[0] if found else None

    def by_key(
        self, action: str, actor: str | None, key: str | None, connection: Connection | None = None
    ) -> Record | None:
        """The submitted record that used an idempotency key, or None. Raises OutcomeArchived where that is archived."""
        if key is None:
            return None
        c = self._table.c
        is_it = and_(c.idempotency_key == key, c.action == action, func.coalesce(c.actor, "") == (actor or ""))
        found = self._records.fetch(self._records.select().where(is_it), connection)
        if not found:
            self.begins.refuse_key(action, actor, key, connection)
        return found[0] if found else None

    def unfinished(self, before: datetime | None = None) -> list[Record]:
        """Submitted records, older than `before` if it is given, whose action has no outcome."""
        older = [] if before is None else [self._table.c.recorded_at < self._time(before)]
        return unfinished(self._records, self._backend, self.settled(), older)

    def stats(self) -> JournalStats:
        """Counts by action and status up to the settled end, the first and last record's time, the last position."""
        end, c = self.settled(), self._table.c
        parts = totals(self._backend, end)
        recorded = select(c.recorded_at).where(c.position <= end).limit(1)
        ends = [recorded.order_by(order) for order in (c.position, c.position.desc())]
        first, last = self._backend.read(lambda connection: [connection.execute(each).scalar() for each in ends])
        return {
            "records": sum(each.records for each in parts),
            "last_position": end,
            "first": first and aware(first),
            "last": last and aware(last),
            "actions": told(parts),
        }

    def _time(self, moment: datetime) -> datetime:
        return self._backend.comparable(aware(moment))

    def require(self) -> None:
        """Raises ConfigurationError if the table is not there, JournalUnavailable if that cannot be asked."""
        try:
            there = self.exists()
        except Exception as error:
            raise JournalUnavailable(f"the database cannot be reached: {getattr(error, 'orig', error)}") from error
        if not there:
            raise ConfigurationError([NO_JOURNAL])
