"""Journal, the append-only table as applications read it: `bus.journal`. Nothing here writes a record but `create`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Unpack
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    func,
    inspect,
    or_,
    select,
)

from actionbus.core.errors import ConfigurationError, JournalUnavailable
from actionbus.core.secrecy.personal import INSTALL, keys_in, opened
from actionbus.core.storage import ddl
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.missing import NO_JOURNAL
from actionbus.core.storage.reader import SettledReader
from actionbus.core.storage.row_decoding import columns_to_read, decoder, fetch
from actionbus.core.storage.subject_keys import secrets_of
from actionbus.core.storage.table import FORMAT, SEALED, identity_table, journal_table
from actionbus.core.values.identifiers import AnyId, action_id_of
from actionbus.core.values.journal_filter import EVERYTHING, Filters, JournalFilter, Touching
from actionbus.core.values.record import Kind, Record, Teller

_AT_ONCE: Final = 500
"""Positions asked for by one statement."""

_PERSONAL: Final = ("context", "arguments", "result", "error", "calls")
"""Fields of a record in which personal values may be encrypted."""
_KEYS_KNOWN: Final = 500


class Journal:
    """Reads records in the order of their positions, and never past one that might still appear, or be taken back.

    So do `read`, `tail` and `settled`. The rest answers about this moment, beyond what is settled too: `get` and others
    that look for one action, which is how the gateway finds its own, and counts. What they show of an action that has
    no outcome yet, a crash of the database's server may take back; an outcome it does not, since that is flushed
    before anybody sees it. To follow the journal, read it in order.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._table = journal_table(backend.schema)
        self.teller = Teller()
        """Behind which a History takes its place, for what rows became."""
        self._decode = decoder(backend.utc, self.teller)
        self._reader = SettledReader(backend, self._table, columns_to_read(self._table))

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
        conditions = self._conditions(asked)
        if asked.touching is not None:
            yield from self._touching(asked.touching, after, limit, upto, conditions)
            return
        decode, known = self._decode, dict[str, str | None]()
        for row in self._reader.rows(after, upto, limit, conditions, wait=wait):
            record = decode(row)
            yield record if record.format != SEALED else self._opened(record, known)

    def as_stored(self, after: int = 0, *, upto: int | None = None) -> Iterator[Record]:
        """The same of a range as they stand in the table, personal values encrypted: to be carried with their keys."""
        return map(self._decode, self._reader.rows(after, upto, None, [], wait=True))

    def _touching(
        self, touching: Touching, after: int, limit: int | None, upto: int | None,
        conditions: Sequence[ColumnElement[bool]],
    ) -> Iterator[Record]:  # fmt: skip
        """The records at the positions at which a table or row was changed."""
        table, *key = touching
        positions = self.teller.needed().positions_of(table, key, after, upto)
        position = self._table.c.position
        for start in range(0, len(positions), _AT_ONCE):
            chosen = position.in_(positions[start : start + _AT_ONCE])
            found = self._fetch(self._select().where(chosen, *conditions).order_by(position))
            yield from found if limit is None else found[:limit]
            limit = None if limit is None else limit - len(found)
            if limit is not None and limit <= 0:
                return

    def tail(self, count: int, *, kind: Kind | Collection[Kind] | None = None) -> list[Record]:
        """The last `count` settled records, oldest first."""
        position = self._table.c.position
        conditions = [position <= self.settled(), *([_is_any(self._table.c.kind, kind)] if kind else [])]
        return self._fetch(self._select().where(*conditions).order_by(position.desc()).limit(count))[::-1]

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
        c = self._table.c
        recorded = c.recorded_at <= self._time(moment)
        last = select(func.max(c.position)).where(recorded)
        return self._backend.read(lambda connection: connection.execute(last).scalar_one() or 0)

    def look_anew(self, known: int = 0) -> None:
        """Forget how far the journal is settled beyond `known`: the database may have been replaced by an older one."""
        self._reader.forget(known)

    def waiting_for(self) -> list[str]:
        """The transactions that a reader would wait for now, described for an operator; empty if there is no hole."""
        return self._reader.waiting_for()

    def get(self, action_id: AnyId, connection: Connection | None = None) -> Record | None:
        """An action's outcome, or its submitted record while it has none; None if it was never submitted."""
        is_it = self._table.c.action_id == action_id_of(action_id)
        found = self._fetch(self._select().where(is_it).order_by(self._table.c.position), connection)
        return found[-1] if found else None

    def at(self, position: int) -> Record | None:
        """The record at a position, or None."""
        found = self._fetch(self._select().where(self._table.c.position == position))
        return found[0] if found else None

    def history(self, action_id: AnyId) -> list[Record]:
        """An action's records and those of the actions it caused, at any depth, oldest first."""
        found: dict[int, Record] = {}
        wanted, asked = {action_id_of(action_id)}, set[UUID]()
        while new := wanted - asked:
            is_one = or_(self._table.c.action_id.in_(new), self._table.c.cause_id.in_(new))
            records = self._fetch(self._select().where(is_one))
            asked |= new
            found |= {record.position: record for record in records}
            wanted |= {record.action_id for record in records}
        return [found[position] for position in sorted(found)]

    def submitted(self, action_id: AnyId) -> Record | None:
        """What was asked, for an action's id; None if it was never submitted."""
        is_it = and_(self._table.c.action_id == action_id_of(action_id), self._table.c.kind == "submitted")
        found = self._fetch(self._select().where(is_it))
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
        found = self._fetch(self._select().where(is_it), connection)
        return found[0] if found else None

    def by_key(
        self, action: str, actor: str | None, key: str | None, connection: Connection | None = None
    ) -> Record | None:
        """The submitted record that used an idempotency key, or None."""
        if key is None:
            return None
        c = self._table.c
        is_it = and_(c.idempotency_key == key, c.action == action, func.coalesce(c.actor, "") == (actor or ""))
        found = self._fetch(self._select().where(is_it), connection)
        return found[0] if found else None

    def unfinished(self, before: datetime | None = None) -> list[Record]:
        """Submitted records, older than `before` if it is given, whose action has no outcome."""
        outcome = self._table.alias("outcome")
        settled = select(outcome.c.position).where(
            outcome.c.action_id == self._table.c.action_id, outcome.c.kind == "outcome"
        )
        c = self._table.c
        statement = self._select().where(c.kind == "submitted", ~settled.exists()).order_by(c.position)
        if before is not None:
            statement = statement.where(c.recorded_at < self._time(before))
        return self._fetch(statement)

    def stats(self) -> dict[str, Any]:
        """Counts by action and status, the first and last record's time, the last position."""
        c = self._table.c
        outcomes = select(c.action, c.status, func.count(), func.avg(c.duration_us)).where(c.kind == "outcome")
        outcomes = outcomes.group_by(c.action, c.status).order_by(c.action, c.status)
        totals = select(func.count(), func.max(c.position), func.min(c.recorded_at), func.max(c.recorded_at))
        rows = self._backend.read(lambda connection: connection.execute(outcomes).all())
        count, last, first_at, last_at = self._backend.read(lambda connection: connection.execute(totals).one())
        actions = [
            {"action": action, "status": status, "count": number, "mean_ms": round(float(mean or 0) / 1000, 2)}
            for action, status, number, mean in rows
        ]
        return {
            "records": count,
            "last_position": last or 0,
            "first": _aware(first_at),
            "last": _aware(last_at),
            "actions": actions,
        }

    def _time(self, moment: datetime) -> datetime:
        return self._backend.comparable(moment if moment.tzinfo else moment.replace(tzinfo=UTC))

    def _conditions(self, where: JournalFilter) -> list[ColumnElement[bool]]:
        c = self._table.c
        plain = ("action", "actor", "status", "kind", "correlation_id")
        asked = {name: value for name in plain if (value := getattr(where, name)) is not None}
        found = [_is_any(c[name], value) for name, value in asked.items()]
        if where.cause_id is not None:
            found.append(c.cause_id == action_id_of(where.cause_id))
        if where.since is not None:
            found.append(c.recorded_at >= self._time(where.since))
        if where.until is not None:
            found.append(c.recorded_at < self._time(where.until))
        return found

    def _select(self) -> Select[Any]:
        return select(*columns_to_read(self._table))

    def _fetch(self, statement: Select[Any], connection: Connection | None = None) -> list[Record]:
        rows = self._backend.read(lambda used: fetch(used, statement), connection)
        records, known = [self._decode(row) for row in rows], dict[str, str | None]()
        return [each if each.format != SEALED else self._opened(each, known, connection) for each in records]

    def _opened(self, record: Record, known: dict[str, str | None], connection: Connection | None = None) -> Record:
        """A record with its personal values in clear; `known` are keys that were looked up a moment ago."""
        columns = {name: getattr(record, name) for name in _PERSONAL}
        if len(known) > _KEYS_KNOWN:  # lest a long reading goes on with keys that were deleted since
            known.clear()
        if wanted := set(keys_in(list(columns.values()))) - known.keys():
            known |= secrets_of(self._backend, wanted, connection)
        try:
            found = {name: self._open(record, name, each, known) for name, each in columns.items()}
        except ValueError as why:
            raise JournalUnavailable(
                f"the record at position {record.position} cannot be read: {why}; read on with after={record.position}"
            ) from None
        except ImportError:
            raise JournalUnavailable(
                f"the record at position {record.position} has personal values; to read them takes {INSTALL}"
            ) from None
        return record._replace(**found, format=FORMAT)

    def _open(self, record: Record, column: str, value: Any, known: dict[str, str | None]) -> Any:
        place = f"{record.action_id.hex}/{column}"
        if column != "arguments":
            return opened(value, known, place)
        return {name: opened(each, known, f"{place}/{name}") for name, each in value.items()}

    def require(self) -> None:
        """Raises ConfigurationError if the table is not there."""
        try:
            there = self.exists()
        except Exception as error:
            raise JournalUnavailable(f"the database cannot be reached: {error}") from error
        if not there:
            raise ConfigurationError([NO_JOURNAL])


def _aware(moment: datetime | None) -> Any:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _is_any(column: ColumnElement[Any], wanted: str | Collection[str]) -> ColumnElement[bool]:
    return column == wanted if isinstance(wanted, str) else column.in_(sorted(wanted))
