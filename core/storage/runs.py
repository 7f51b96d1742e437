"""Runs: the rows of queued actions on their way to a worker, beside the journal. All SQL on them is here.

A row is inserted in the transaction that queues the action and removed in the one that writes its outcome, so there is
a row exactly while the action waits or runs. What is kept in it besides is for scheduling and for people: losing it
loses no action, since the lock of a running action and the one-outcome constraint decide what takes effect.

Times are seconds since 1970. All are compared by the database's clock, and written by it but for a time that a caller
gave, so that processes whose clocks differ agree on what is due.
"""

from __future__ import annotations

import random
import time
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    and_,
    case,
    func,
    literal,
    literal_column,
    select,
    update,
)

from actionbus.core.storage.backend import Backend
from actionbus.core.storage.rows import Statement
from actionbus.core.values.identifiers import AnyId, action_id_of

LONGEST_PAUSE_S: Final = 3600.0
"""Between two messages for the same action."""
_DOUBLINGS_ELSEWHERE: Final = 6
"""The longest pause of an action that waits for another worker is 64 seconds: a deployment is over in minutes."""


class Run(NamedTuple):
    """A queued action on its way."""

    action_id: UUID
    action: str
    queue: str
    queued_at: float
    due_at: float
    """From when on a worker may begin it: the time that was asked for; after an attempt that came to no end, later."""
    publish_at: float
    """When the next message is to be sent, unless the action is settled before."""
    published: int = 0
    attempts: int = 0
    worker: str | None = None
    claimed_at: float | None = None
    problem: str | None = None
    """Why the last attempt came to no end, or why no worker begins one."""

    @property
    def state(self) -> str:
        """`queued` before its time, `due` from then on, `running` once a worker has it."""
        if self.worker is not None:
            return "running"
        return "queued" if self.due_at > time.time() else "due"

    @classmethod
    def new(cls, action_id: UUID, action: str, queue: str, due_at: float | None, redeliver_after: float) -> Run:
        """A run that its maker publishes at once if it is due; the dispatcher does otherwise, or if that fails."""
        now = time.time()
        due = now if due_at is None else due_at
        published = due <= now
        return cls(action_id, action, queue, now, due, now + redeliver_after if published else due, int(published))


class Runs:
    """Reads and writes the rows; `bus.runs`. Methods that take a `connection` use it instead of a second one."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        types: dict[str, Any] = {
            "action_id": Uuid, "queued_at": Double, "due_at": Double, "publish_at": Double, "published": Integer,
            "attempts": Integer, "claimed_at": Double,
        }  # fmt: skip
        columns = (Column(name, types.get(name, Text)) for name in Run._fields)
        self._table = Table("actionbus_runs", MetaData(schema=backend.schema), *columns)
        now = backend.now
        self._now: ColumnElement[float] = literal_column(now, Double)
        insert = "INSERT INTO {schema}actionbus_runs "
        insert += "(action_id, action, queue, published, queued_at, due_at, publish_at)"
        self._insert_due = f"{insert} VALUES (?, ?, ?, 1, {now}, {backend.lesser}(?, {now}), {now} + ?)"
        self._insert_later = f"{insert} VALUES (?, ?, ?, 0, {now}, ?, ?)"
        self._delete = "DELETE FROM {schema}actionbus_runs WHERE action_id = ?"

    def inserting(self, run: Run) -> Statement:
        """The statement that queues, to be run in the transaction of whoever queues."""
        named = (self._backend.written_id(run.action_id), run.action, run.queue)
        if run.published:
            return Statement(self._insert_due, (*named, run.due_at, run.publish_at - run.queued_at))
        return Statement(self._insert_later, (*named, run.due_at, run.publish_at))

    def deleting(self, action_id: UUID) -> Statement:
        """The statement that settles, to be run in the transaction that writes the outcome."""
        return Statement(self._delete, (self._backend.written_id(action_id),))

    def get(self, action_id: AnyId, connection: Connection | None = None) -> Run | None:
        """A run on its way, or None."""
        is_it = self._table.c.action_id == action_id_of(action_id)
        return next(iter(self._fetch(select(self._table).where(is_it), connection)), None)

    def all(self, limit: int = 1000) -> list[Run]:
        """Runs on their way, the first due first."""
        c = self._table.c
        return self._fetch(select(self._table).order_by(c.due_at, c.action_id).limit(limit))

    def counts(self) -> dict[str, int]:
        """How many are `queued`, `due` and `running`."""
        c = self._table.c
        state = case((c.worker.is_not(None), "running"), (self._is_due(), "due"), else_="queued")
        rows = self._backend.read(lambda c: c.execute(select(state, func.count()).group_by(state)).all())
        return {"queued": 0, "due": 0, "running": 0} | dict(map(tuple, rows))

    def claim(self, action_id: UUID, worker: str, redeliver_after: float, connection: Connection) -> Run | None:
        """Note that `worker` begins an attempt; None if the action is settled or before its time.

        The caller holds the action's lock.
        """
        c = self._table.c
        values = {
            "worker": worker, "claimed_at": self._now, "attempts": c.attempts + 1,
            "publish_at": self._now + redeliver_after,
        }  # fmt: skip
        return next(iter(self._write(and_(c.action_id == action_id, self._is_due()), values, connection)), None)

    def take_due(self, limit: int, redeliver_after: float, *, lost: bool = False) -> list[Run]:
        """Runs for which a message is to be sent now; with `lost`, also those whose last one is taken for lost.

        No two callers get the same, and each run comes again after `redeliver_after` seconds, doubled every time.
        """
        c = self._table.c
        ready = and_(self._is_due(), c.worker.is_(None)) if lost else c.publish_at <= self._now
        chosen = select(c.action_id).where(ready).order_by(c.publish_at).limit(limit)
        if not self._backend.has_one_writer:
            chosen = chosen.with_for_update(skip_locked=True)
        pause = redeliver_after * self._doubled(12)
        pause = case((pause > LONGEST_PAUSE_S, LONGEST_PAUSE_S), else_=pause)
        return self._write(c.action_id.in_(chosen), {"published": c.published + 1, "publish_at": self._now + pause})

    def send_again(self, action_id: UUID, seconds: float, connection: Connection | None = None) -> None:
        """Send the next message after `seconds`: the broker did not take the last one."""
        self._write(self._table.c.action_id == action_id, {"publish_at": self._now + seconds}, connection)

    def hand_back(self, run: Run, seconds: float, problem: str) -> None:
        """No worker has it any more, since the attempt came to no end; the next may begin after `seconds`."""
        c = self._table.c
        values = self._again_after(seconds, problem) | {"worker": None, "claimed_at": None}
        # Unless another attempt has begun meanwhile.
        self._write(and_(c.action_id == run.action_id, c.attempts == run.attempts), values)

    def leave_to_others(self, action_id: UUID, problem: str, connection: Connection) -> float | None:
        """Let another worker begin it, for this one cannot: after how many seconds; None if it is not due at all.

        Longer with every message, so that a deployment may take its time, and at most about a minute; at random, lest
        the next message finds the same worker listening again, as it would where all listen in step with the pauses.
        """
        c = self._table.c
        part = random.uniform(0.5, 1.0)
        values = self._again_after(self._doubled(_DOUBLINGS_ELSEWHERE) * part, problem)
        left = self._write(and_(c.action_id == action_id, self._is_due()), values, connection)
        return part * 2 ** min(left[0].published, _DOUBLINGS_ELSEWHERE) if left else None

    def next_in(self) -> float | None:
        """In how many seconds the next message is to be sent; None if nothing waits."""
        next_one = select(func.min(self._table.c.publish_at) - self._now)
        found: float | None = self._backend.read(lambda connection: connection.execute(next_one).scalar())
        return found

    def _is_due(self) -> ColumnElement[bool]:
        return self._table.c.due_at <= self._now

    def _doubled(self, times: int) -> ColumnElement[int]:
        """1, doubled with every message that was sent, so many times at most."""
        published = self._table.c.published
        return literal(1).bitwise_lshift(case((published > times, times), else_=published))

    def _again_after(self, seconds: Any, problem: str) -> dict[str, Any]:
        at = self._now + seconds
        return {"due_at": at, "publish_at": at, "problem": problem[:1000]}

    def _write(self, which: Any, values: dict[str, Any], connection: Connection | None = None) -> list[Run]:
        return self._fetch(update(self._table).where(which).values(values).returning(*self._table.c), connection)

    def _fetch(self, statement: Any, connection: Connection | None = None) -> list[Run]:
        run = self._backend.read if statement.is_select else self._backend.write
        return run(lambda used: [Run(*row) for row in used.execute(statement)], connection)
