"""Runs: the rows of queued actions on their way to a worker, beside the journal. All SQL on them is here.

A row is inserted in the transaction that queues the action and removed in the one that writes its outcome, so there is
a row exactly while the action waits or runs. What is kept in it besides is for scheduling and for people: losing it
loses no action, since the lock of a running action and the one-outcome constraint decide what takes effect.

Times are seconds since 1970 by the clock of the process that writes; where clocks differ, a message goes out that much
sooner or later.
"""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Column, Double, Integer, MetaData, Table, Text, Uuid, and_, case, func, literal, select, update

from core.backend import Backend, Statement

LONGEST_PAUSE_S: Final = 3600.0
"""Between two messages for the same action."""


class Run(NamedTuple):
    """A queued action on its way."""

    action_id: UUID
    action: str
    queue: str
    queued_at: float
    due_at: float
    publish_at: float
    """When the next message is to be sent, unless the action is settled before."""
    published: int = 0
    attempts: int = 0
    worker: str | None = None
    claimed_at: float | None = None
    problem: str | None = None
    """Why the last attempt came to no end."""

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
    """Reads and writes the rows; `bus.runs`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        types: dict[str, Any] = {
            "action_id": Uuid, "queued_at": Double, "due_at": Double, "publish_at": Double, "published": Integer,
            "attempts": Integer, "claimed_at": Double,
        }  # fmt: skip
        columns = (Column(name, types.get(name, Text)) for name in Run._fields)
        self._table = Table("actionbus_runs", MetaData(schema=backend.schema), *columns)
        names, values = ", ".join(Run._fields), ", ".join("?" * len(Run._fields))
        self._insert = "INSERT INTO {schema}actionbus_runs " + f"({names}) VALUES ({values})"
        self._delete = "DELETE FROM {schema}actionbus_runs WHERE action_id = ?"

    def inserting(self, run: Run) -> Statement:
        """The statement that queues, to be run in the transaction of whoever queues."""
        return Statement(self._insert, (self._backend.written_id(run.action_id), *run[1:]))

    def deleting(self, action_id: UUID) -> Statement:
        """The statement that settles, to be run in the transaction that writes the outcome."""
        return Statement(self._delete, (self._backend.written_id(action_id),))

    def get(self, action_id: UUID) -> Run | None:
        """A run on its way, or None."""
        return next(iter(self._fetch(select(self._table).where(self._table.c.action_id == action_id))), None)

    def all(self, limit: int = 1000) -> list[Run]:
        """Runs on their way, the first due first."""
        c = self._table.c
        return self._fetch(select(self._table).order_by(c.due_at, c.action_id).limit(limit))

    def counts(self) -> dict[str, int]:
        """How many are `queued`, `due` and `running`."""
        c = self._table.c
        is_due = c.due_at <= time.time()
        state = case((c.worker.is_not(None), "running"), (is_due, "due"), else_="queued")
        rows = self._backend.read(lambda c: c.execute(select(state, func.count()).group_by(state)).all())
        return {"queued": 0, "due": 0, "running": 0} | dict(map(tuple, rows))

    def claim(self, action_id: UUID, worker: str, redeliver_after: float) -> Run | None:
        """Note that `worker` begins an attempt; None if the action is settled. The caller holds the action's lock."""
        c = self._table.c
        now = time.time()
        values = {"worker": worker, "claimed_at": now, "attempts": c.attempts + 1, "publish_at": now + redeliver_after}
        return next(iter(self._write(c.action_id == action_id, values)), None)

    def take_due(self, limit: int, redeliver_after: float, *, lost: bool = False) -> list[Run]:
        """Runs for which a message is to be sent now; with `lost`, also those whose last one is taken for lost.

        No two callers get the same, and each run comes again after `redeliver_after` seconds, doubled every time.
        """
        c = self._table.c
        now = time.time()
        ready = and_(c.due_at <= now, c.worker.is_(None)) if lost else c.publish_at <= now
        chosen = select(c.action_id).where(ready).order_by(c.publish_at).limit(limit)
        if self._backend.engine.dialect.name == "postgresql":
            chosen = chosen.with_for_update(skip_locked=True)
        doubled = literal(1).bitwise_lshift(case((c.published > 12, 12), else_=c.published))
        pause = redeliver_after * doubled
        pause = case((pause > LONGEST_PAUSE_S, LONGEST_PAUSE_S), else_=pause)
        return self._write(c.action_id.in_(chosen), {"published": c.published + 1, "publish_at": now + pause})

    def send_again(self, action_id: UUID, seconds: float) -> None:
        """Send the next message after `seconds`: the broker did not take the last one."""
        self._write(self._table.c.action_id == action_id, {"publish_at": time.time() + seconds})

    def hand_back(self, action_id: UUID, seconds: float, problem: str) -> None:
        """No worker has it any more, since the attempt came to no end; the next message is sent after `seconds`."""
        values = {"publish_at": time.time() + seconds, "worker": None, "claimed_at": None, "problem": problem}
        self._write(self._table.c.action_id == action_id, values)

    def next_at(self) -> float | None:
        """When the next message is to be sent; None if nothing waits."""
        next_one = select(func.min(self._table.c.publish_at))
        found: float | None = self._backend.read(lambda connection: connection.execute(next_one).scalar())
        return found

    def _write(self, which: Any, values: dict[str, Any]) -> list[Run]:
        return self._fetch(update(self._table).where(which).values(values).returning(*self._table.c))

    def _fetch(self, statement: Any) -> list[Run]:
        run = self._backend.read if statement.is_select else self._backend.write
        return run(lambda connection: [Run(*row) for row in connection.execute(statement)])
