"""Ledger: the checkpoint rows, one per index and slice, in the journal's database. All their SQL is here.

The two durable steps of a batch are `intend` (before its first write to the store) and `absorbed` (after its last).
Both take effect only for the holder of the row, and not while the row is frozen, so a projector that lost its place
finds out before it writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Table,
    Text,
    Update,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)

from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.storage.shared import shared, shared_table
from actionbus.core.values.payload import dumps
from actionbus.projections.incarnation import Incarnation
from actionbus.projections.leases import FREEZE_S, LEASE_S, clock, holds, is_over

_ITS: Final = ("index_name", "slice", "holder", "position")
"""By what a holder finds its row where it left it."""


class Checkpoint(NamedTuple):
    """How far one slice of one index is."""

    index_name: str
    slice: int
    slices: int
    projection: str
    version: int
    built: bool
    position: int
    writing_to: int
    documents: int | None
    documents_then: int | None
    holder: str | None
    alive_until: float
    frozen_until: float
    created: float
    highest: int
    """The greatest version that the store has acknowledged. One that has less has lost some."""
    versions: int | None
    """The sum of the versions of its documents, as `documents` is their number; None where it is not known."""
    versions_then: int | None
    decided_to: int
    """Up to here decisions to leave records out are known."""
    left_out: str | None
    refused: str | None
    alarm: str | None
    """Why the index is fed no more: somebody else writes to it."""
    state: str
    detail: str | None
    rate: float | None
    now: float

    @property
    def alive(self) -> bool:
        """Whether somebody feeds it, by the last sign of life."""
        return self.holder is not None and holds(self.alive_until, self.now, LEASE_S)

    @property
    def told(self) -> dict[str, Any]:
        """`detail`, decoded from its JSON."""
        found: dict[str, Any] = json.loads(self.detail) if self.detail else {}
        return found

    @property
    def without(self) -> set[int]:
        """`left_out`, decoded: positions of records of which nothing is in the index, as operators decided."""
        return set(json.loads(self.left_out or "[]"))

    @property
    def refusals(self) -> set[int]:
        """`refused`, decoded: positions of records of which nothing is in the index, since the store refused a part."""
        return set(json.loads(self.refused or "[]"))

    @property
    def is_at_rest(self) -> bool:
        """Whether no batch was begun that is not absorbed."""
        return self.position >= self.writing_to


@cache
def _checkpoints_table(schema: str | None) -> Table:
    """Made once: an engine compiles a statement anew for every other table."""
    types: dict[str, Any] = {
        "slice": Integer,
        "slices": Integer,
        "version": Integer,
        "built": Boolean,
        "position": BigInteger,
        "writing_to": BigInteger,
        "documents": BigInteger,
        "documents_then": BigInteger,
        "alive_until": Double,
        "frozen_until": Double,
        "rate": Double,
        "created": Double,
        "highest": BigInteger,
        "versions": BigInteger,
        "versions_then": BigInteger,
        "decided_to": BigInteger,
    }
    columns = (Column(name, types.get(name, Text)) for name in Checkpoint._fields[:-1])
    return shared_table("actionbus_checkpoints", schema, *columns)


class Ledger:
    """Reads and writes checkpoint rows."""

    def __init__(self, backend: Backend) -> None:
        self._backend, engine = backend, backend.engine
        self._postgresql = engine.dialect.name == "postgresql"
        # What is read under a lock must be newer than the lock, whatever the database's default.
        self._engine = engine.execution_options(isolation_level="READ COMMITTED") if self._postgresql else engine
        self.incarnation = Incarnation(backend, self._engine)
        self._table = _checkpoints_table(backend.schema)
        self._made: dict[tuple[tuple[str, ...], bool], Update] = {}
        self._now = clock(of_postgresql=self._postgresql)

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with self._engine.begin() as connection, self._backend.placed(connection):
            yield connection

    def checkpoints(self, projection: str | None = None, index: str | None = None) -> list[Checkpoint]:
        """The rows of a projection or an index, or all, in the order of their indices' names and slices."""
        with self._engine.connect() as connection:
            return self.checkpoints_on(connection, projection, index)

    def checkpoints_on(
        self, connection: Connection, projection: str | None = None, index: str | None = None
    ) -> list[Checkpoint]:
        """The same, on a connection that the caller has already."""
        c = self._table.c
        statement = select(*c, self._now.label("now")).order_by(c.projection, c.index_name, c.slice)
        if projection is not None:
            statement = statement.where(c.projection == projection)
        if index is not None:
            statement = statement.where(c.index_name == index)
        with self._backend.placed(connection):
            return [Checkpoint(*tuple(row)) for row in connection.execute(statement)]

    def checkpoint(self, index: str, part: int) -> Checkpoint | None:
        """The row of a slice of an index, or None."""
        return next((row for row in self.checkpoints(index=index) if row.slice == part), None)

    def add(self, index: str, projection: str, version: int, slices: int, *, first: bool) -> bool:
        """Rows for a new index; with `first`, only if the projection has none, else False."""
        row = {"index_name": index, "slices": slices, "projection": projection, "version": version, "built": False}
        rows = [
            row
            | {
                "slice": part,
                "position": 0,
                "writing_to": 0,
                "documents": 0,
                "versions": 0,
                "highest": 0,
                "decided_to": 0,
                "state": "new",
                "alive_until": 0.0,
                "frozen_until": 0.0,
            }
            for part in range(1, slices + 1)
        ]
        with self._begin() as connection:
            self._lock(connection)
            here = select(func.count()).where(self._table.c.projection == projection)
            if first and connection.execute(here).scalar_one():
                return False
            connection.execute(insert(self._table).values(created=self._now), rows)
        return True

    def cut(self, index: str, slices: int) -> bool:
        """Cut an index into another number of slices, unless somebody feeds it. Each starts where the last one was.

        What is then absorbed again is there already. What the index holds in all is known from the first slice on,
        if every one of them was at rest.
        """
        with self._begin() as connection:
            self._lock(connection)
            here = self._table.c.index_name == index
            rows = connection.execute(select(*self._table.c, self._now).where(here)).all()
            found = [Checkpoint(*tuple(row)) for row in rows]
            if any(row.alive for row in found) or not found:
                return False
            common = found[0]._asdict() | {
                "slices": slices,
                "position": min(row.position for row in found),
                "writing_to": max(row.writing_to for row in found),
                "holder": None,
                "documents_then": None,
                "versions_then": None,
                "highest": max(row.highest for row in found),
                "decided_to": min(row.decided_to for row in found),
                "left_out": dumps(sorted(set.intersection(*(row.without for row in found)))),
                "refused": dumps(sorted(set.union(*(row.refusals for row in found)))),
                "alarm": next((row.alarm for row in found if row.alarm), None),
            }
            del common["now"]
            counts = {"documents": _total(found, "documents"), "versions": _total(found, "versions")}
            none = {name: None if total is None else 0 for name, total in counts.items()}
            connection.execute(delete(self._table).where(here))
            connection.execute(
                insert(self._table),
                [common | {"slice": part} | (counts if part == 1 else none) for part in range(1, slices + 1)],
            )
        return True

    def _lock(self, connection: Connection) -> None:
        """Let nobody else change rows until the transaction ends."""
        if self._postgresql:
            name = f"{in_text(self._backend.prefix)}actionbus_checkpoints"
            connection.execute(text(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"))
        else:
            connection.execute(update(self._table).where(literal(0) == 1).values(state="new"))

    def take(self, row: Checkpoint, holder: str, *, steal: bool) -> bool:
        """Become the holder: of a row that nobody holds, or, with `steal`, whoever did."""
        c = self._table.c
        free = [is_over(c.frozen_until, self._now, FREEZE_S)]
        if not steal:
            free.append(c.holder.is_(None) | (c.holder == holder) | is_over(c.alive_until, self._now, LEASE_S))
        return self._set(row.index_name, row.slice, and_(*free), holder=holder, alive_until=self._now + LEASE_S)

    def give_back(self, index: str, part: int, holder: str) -> None:
        """Stop being the holder."""
        self._set(index, part, self._table.c.holder == holder, holder=None, alive_until=0.0)

    def intend(self, row: Checkpoint, holder: str) -> bool:
        """Before a batch's first write: durably say how far it goes. With it every record up to there is durable."""
        counts = {
            "documents": row.documents,
            "documents_then": row.documents_then,
            "versions": row.versions,
            "versions_then": row.versions_then,
        }
        return self._sign(row, holder, durable=True, is_thawed=True, writing_to=row.writing_to, **counts)

    def absorbed(self, row: Checkpoint, holder: str, reached: Checkpoint) -> bool:
        """After a batch's last write: move the checkpoint from `row` to `reached`."""
        values: dict[str, Any] = {
            name: getattr(reached, name)
            for name in ("position", "writing_to", "documents", "versions", "highest", "refused", "rate")
        }
        return self._sign(row, holder, is_thawed=True, state="running", detail=None, **values)

    def note(self, row: Checkpoint, holder: str, **values: Any) -> bool:
        """Durably note something about an index; whether `holder` still holds the row, and where it left it."""
        return self._sign(row, holder, durable=True, **values)

    def advance(self, row: Checkpoint, holder: str, end: int) -> bool:
        """Move the position of a subscription, which has no documents."""
        return self._sign(row, holder, is_thawed=True, position=end, writing_to=end, state="running", detail=None)

    def begin_at(self, index: str, position: int) -> None:
        """Where a subscription begins that nobody has followed yet."""
        is_new = and_(self._table.c.state == "new", self._table.c.position == 0)
        self._set(index, 1, is_new, position=position, writing_to=position, built=True)

    def move_on(self, connection: Connection, index: str, position: int) -> None:
        """Let a subscription go on beyond a position, on the connection of an action.

        Whoever holds it does so no more: he may be handing over what lies beyond that very position, and would move on
        from there as if nothing had been said.
        """
        moved = {"position": position, "writing_to": position, "state": "new", "detail": None}
        here = update(self._table).where(self._table.c.index_name == index)
        with self._backend.placed(connection):
            connection.execute(here.values(**moved, holder=None, alive_until=0.0))

    def report(self, row: Checkpoint, holder: str, state: str, detail: Mapping[str, Any] | None = None) -> bool:
        """Set the state to be shown; whether `holder` still holds the row, and where it left it."""
        told = None if detail is None else dumps(dict(detail))
        return self._sign(row, holder, state=state, detail=told)

    def tell(self, index: str, state: str, detail: Mapping[str, Any]) -> None:
        """Show a state of an index that nobody holds."""
        with self._begin() as connection:
            here = update(self._table).where(self._table.c.index_name == index, self._table.c.holder.is_(None))
            connection.execute(here.values(state=state, detail=dumps(dict(detail))))

    def sign_of_life(self, row: Checkpoint, holder: str) -> bool:
        """The same, leaving the state alone, which somebody else may have changed."""
        return self._sign(row, holder)

    def _sign(
        self, row: Checkpoint, holder: str, *, durable: bool = False, is_thawed: bool = False, **values: Any
    ) -> bool:
        """Set some of a row that `holder` holds and that is where it left it; whether it is so."""
        its = zip(_ITS, (row.index_name, row.slice, holder, row.position), strict=True)
        given = {f"new_{name}": value for name, value in values.items()} | {f"its_{name}": each for name, each in its}
        return self._changed(self._signing(tuple(values), is_thawed=is_thawed), given, durable=durable)

    def _signing(self, names: tuple[str, ...], *, is_thawed: bool) -> Update:
        """The statement that does so, with a sign of life. Made once: that takes as long as sending it."""
        which = (names, is_thawed)
        found = self._made.get(which)
        if found is None:
            c = self._table.c
            here = [c[name] == bindparam(f"its_{name}", type_=c[name].type) for name in _ITS]
            if is_thawed:
                here.append(is_over(c.frozen_until, self._now, FREEZE_S))
            new = {name: bindparam(f"new_{name}", type_=c[name].type) for name in names}
            statement = update(self._table).where(*here).values(**new, alive_until=self._now + LEASE_S)
            found = self._made[which] = shared(statement)
        return found

    def freeze(self, index: str, seconds: float = FREEZE_S) -> None:
        """Let nobody write to the index for a while; 0 ends it."""
        with self._begin() as connection:
            statement = update(self._table).where(self._table.c.index_name == index)
            connection.execute(statement.values(frozen_until=self._now + seconds if seconds else 0.0))

    def is_frozen_for(self, index: str, seconds: float) -> bool:
        """Whether the index stays frozen for at least so long."""
        rows = self.checkpoints(index=index)
        return bool(rows) and all(holds(row.frozen_until, row.now + seconds, FREEZE_S) for row in rows)

    def set_built(self, index: str) -> None:
        """From now on the index may be fed by any projector."""
        with self._begin() as connection:
            statement = update(self._table).where(self._table.c.index_name == index)
            connection.execute(statement.values(built=True))

    def wake(self, projection: str) -> int:
        """Clear what stopped a projection, so that it is tried again; how many rows that was.

        What stopped an index that is being built stays: only another `rebuild` tries it again, which asks for it.
        """
        with self._begin() as connection:
            c = self._table.c
            statement = update(self._table).where(c.projection == projection, c.built, c.state == "stopped")
            return connection.execute(statement.values(state="new", detail=None)).rowcount

    def remove(self, index: str) -> None:
        """Forget an index and its checkpoints."""
        with self._begin() as connection:
            connection.execute(delete(self._table).where(self._table.c.index_name == index))

    def age(self, journal: Table, position: int, last: int) -> float:
        """For how many seconds the first record beyond a position has been there; 0 if there is none."""
        c = journal.c
        recorded = (
            func.extract("epoch", c.recorded_at)
            if self._postgresql
            else (func.julianday(c.recorded_at) - 2440587.5) * 86400.0
        )
        beyond = and_(c.position > position, c.position <= last)
        first = select(self._now - recorded).where(beyond).order_by(c.position).limit(1)
        with self._begin() as connection:
            return max(0.0, float(connection.execute(first).scalar() or 0.0))

    def _set(self, index: str, part: int, condition: ColumnElement[bool], **values: Any) -> bool:
        c = self._table.c
        here = update(self._table).where(c.index_name == index, c.slice == part, condition)
        return self._changed(here.values(**values))

    def _changed(self, statement: Update, given: Mapping[str, Any] | None = None, *, durable: bool = False) -> bool:
        with self._begin() as connection:
            if durable and self._postgresql:
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO on")
            return connection.execute(statement, given).rowcount == 1


def _total(rows: Sequence[Checkpoint], name: str) -> int | None:
    """The sum of a count over slices; None where it is not known, as while one of them is at work."""
    counts = [getattr(row, name) for row in rows if row.is_at_rest]
    return None if len(counts) < len(rows) or None in counts else sum(counts)
