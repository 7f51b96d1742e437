"""Ledger: the checkpoint rows, one per index and slice, in the journal's database. All SQL of projections is here.

The two durable steps of a batch are `intend` (before its first write to the store) and `absorbed` (after its last).
Both take effect only for the holder of the row, and not while the row is frozen, so a projector that lost its place
finds out before it writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    update,
)

from actionbus.core.storage.backend import Backend, in_text
from actionbus.core.values.payload import dumps

LEASE_S = 10.0
"""Seconds that a sign of life holds. On SQLite another projector takes over after them."""


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
    state: str
    detail: str | None
    rate: float | None
    now: float

    @property
    def alive(self) -> bool:
        """Whether somebody feeds it, by the last sign of life."""
        return self.holder is not None and self.alive_until > self.now

    @property
    def told(self) -> dict[str, Any]:
        """`detail`, decoded."""
        found: dict[str, Any] = json.loads(self.detail) if self.detail else {}
        return found


class Ledger:
    """Reads and writes checkpoint rows."""

    def __init__(self, backend: Backend) -> None:
        self._backend, engine = backend, backend.engine
        self._postgresql = engine.dialect.name == "postgresql"
        # What is read under a lock must be newer than the lock, whatever the database's default.
        self._engine = engine.execution_options(isolation_level="READ COMMITTED") if self._postgresql else engine
        metadata = MetaData(schema=backend.schema)
        types: dict[str, Any] = {
            "slice": Integer, "slices": Integer, "version": Integer, "built": Boolean, "position": BigInteger,
            "writing_to": BigInteger, "documents": BigInteger, "documents_then": BigInteger, "alive_until": Double,
            "frozen_until": Double, "rate": Double,
        }  # fmt: skip
        columns = (Column(name, types.get(name, Text)) for name in Checkpoint._fields[:-1])
        self._table = Table("actionbus_checkpoints", metadata, *columns)
        # By the database's clock, so that machines need not agree.
        seconds = "extract(epoch FROM clock_timestamp())" if self._postgresql else (
            "((julianday('now') - 2440587.5) * 86400.0)")  # fmt: skip
        self._now: ColumnElement[float] = literal_column(seconds, Double)

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
        """One row, or None."""
        return next((row for row in self.checkpoints(index=index) if row.slice == part), None)

    def add(self, index: str, projection: str, version: int, slices: int, *, first: bool) -> bool:
        """Rows for a new index; with `first`, only if the projection has none, else False."""
        row = {"index_name": index, "slices": slices, "projection": projection, "version": version, "built": False}
        rows = [
            row | {"slice": part, "position": 0, "writing_to": 0, "documents": 0, "state": "new",
                   "alive_until": 0.0, "frozen_until": 0.0}
            for part in range(1, slices + 1)
        ]  # fmt: skip
        with self._begin() as connection:
            self._lock(connection)
            here = select(func.count()).where(self._table.c.projection == projection)
            if first and connection.execute(here).scalar_one():
                return False
            connection.execute(insert(self._table), rows)
        return True

    def cut(self, index: str, slices: int) -> bool:
        """Cut an index into another number of slices, unless somebody feeds it. Each starts where the last one was.

        What is then absorbed again is there already; only the count of documents is lost.
        """
        with self._begin() as connection:
            self._lock(connection)
            here = self._table.c.index_name == index
            rows = connection.execute(select(*self._table.c, self._now).where(here)).all()
            found = [Checkpoint(*tuple(row)) for row in rows]
            if any(row.alive for row in found) or not found:
                return False
            common = found[0]._asdict() | {
                "slices": slices, "position": min(row.position for row in found),
                "writing_to": max(row.writing_to for row in found), "holder": None, "documents": None,
                "documents_then": None,
            }  # fmt: skip
            del common["now"]
            connection.execute(delete(self._table).where(here))
            connection.execute(insert(self._table), [common | {"slice": part} for part in range(1, slices + 1)])
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
        free = [c.frozen_until < self._now]
        if not steal:
            free.append((c.holder.is_(None)) | (c.holder == holder) | (c.alive_until < self._now))
        return self._set(row.index_name, row.slice, and_(*free), holder=holder, alive_until=self._now + LEASE_S)

    def give_back(self, index: str, part: int, holder: str) -> None:
        """Stop being the holder."""
        self._set(index, part, self._table.c.holder == holder, holder=None, alive_until=0.0)

    def intend(self, row: Checkpoint, holder: str) -> bool:
        """Before a batch's first write: durably say how far it goes. With it every record up to there is durable."""
        counts = {"documents": row.documents, "documents_then": row.documents_then}
        return self._set(row.index_name, row.slice, self._still(row, holder), durable=True, writing_to=row.writing_to,
                         alive_until=self._now + LEASE_S, **counts)  # fmt: skip

    def absorbed(self, row: Checkpoint, holder: str, end: int, documents: int | None, rate: float | None) -> bool:
        """After a batch's last write: move the checkpoint."""
        values: dict[str, Any] = {
            "position": end, "writing_to": max(row.writing_to, end), "documents": documents, "rate": rate,
            "state": "running", "detail": None, "alive_until": self._now + LEASE_S,
        }  # fmt: skip
        return self._set(row.index_name, row.slice, self._still(row, holder), **values)

    def _still(self, row: Checkpoint, holder: str) -> ColumnElement[bool]:
        c = self._table.c
        return and_(c.holder == holder, c.position == row.position, c.frozen_until < self._now)

    def report(self, row: Checkpoint, holder: str, state: str, detail: Mapping[str, Any] | None = None) -> bool:
        """Set the state to be shown; whether `holder` still holds the row, and where it left it."""
        told = None if detail is None else dumps(dict(detail))
        return self._sign(row, holder, state=state, detail=told)

    def sign_of_life(self, row: Checkpoint, holder: str) -> bool:
        """The same, leaving the state alone, which somebody else may have changed."""
        return self._sign(row, holder)

    def _sign(self, row: Checkpoint, holder: str, **values: Any) -> bool:
        c = self._table.c
        still = and_(c.holder == holder, c.position == row.position)
        return self._set(row.index_name, row.slice, still, alive_until=self._now + LEASE_S, **values)

    def freeze(self, index: str, seconds: float) -> None:
        """Let nobody write to the index for a while; 0 ends it."""
        with self._begin() as connection:
            statement = update(self._table).where(self._table.c.index_name == index)
            connection.execute(statement.values(frozen_until=self._now + seconds if seconds else 0.0))

    def is_frozen_for(self, index: str, seconds: float) -> bool:
        """Whether the index stays frozen for at least so long."""
        rows = self.checkpoints(index=index)
        return bool(rows) and all(row.frozen_until > row.now + seconds for row in rows)

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
        """Forget an index."""
        with self._begin() as connection:
            connection.execute(delete(self._table).where(self._table.c.index_name == index))

    def lag(self, journal: Table, position: int, last: int) -> tuple[int, float]:
        """How many records lie beyond a position, and for how many seconds the first of them has."""
        c = journal.c
        beyond = and_(c.position > position, c.position <= last)
        recorded = (
            func.extract("epoch", c.recorded_at)
            if self._postgresql
            else (func.julianday(c.recorded_at) - 2440587.5) * 86400.0
        )
        first = select(self._now - recorded).where(beyond).order_by(c.position).limit(1)
        with self._begin() as connection:
            count = connection.execute(select(func.count()).where(beyond)).scalar_one()
            age = connection.execute(first).scalar() if count else 0.0
        return count, max(0.0, float(age or 0.0))

    def _set(
        self, index: str, part: int, condition: ColumnElement[bool], *, durable: bool = False, **values: Any
    ) -> bool:
        c = self._table.c
        statement = update(self._table).where(c.index_name == index, c.slice == part, condition).values(**values)
        with self._begin() as connection:
            if durable and self._postgresql:
                connection.execute(text("SET LOCAL synchronous_commit TO on"))
            return connection.execute(statement).rowcount == 1
