"""Runs: the rows of queued actions on their way to a worker, beside the journal. `storage.claims` gives them away.

A row is inserted in the transaction that queues the action and removed in the one that writes its outcome, so there is
a row exactly while the action waits or runs. What is kept in it besides is for scheduling and for people: losing it
loses no action, since the lock of a running action and the one-outcome constraint decide what takes effect.

Times are seconds since 1970. All are compared by the database's clock, and written by it but for a time that a caller
gave, so that processes whose clocks differ agree on what is due.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    Integer,
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
from actionbus.core.storage.queue_ddl import DEAD, QUEUES, RUNS, UNIQUE
from actionbus.core.storage.rows import Statement
from actionbus.core.storage.shared import shared, shared_table
from actionbus.core.values.backoff import LONGEST_PAUSE_S
from actionbus.core.values.identifiers import AnyId, action_id_of

_DOUBLINGS_ELSEWHERE: Final = 6
"""The longest pause of an action that waits for another worker is 64 seconds: a deployment is over in minutes."""
_PROBLEM: Final = 1000
STATES: Final = ("queued", "due", "running")


class Run(NamedTuple):
    """A queued action on its way."""

    action_id: UUID
    action: str
    queue: str
    queued_at: float
    due_at: float
    """From when on a worker may begin it: the time that was asked for; after an attempt that did not finish, later."""
    publish_at: float
    """When the next message is to be sent, unless the action is settled before."""
    published: int = 0
    attempts: int = 0
    worker: str | None = None
    claimed_at: float | None = None
    problem: str | None = None
    """Why the last attempt did not finish, or why no worker begins one."""
    priority: int = 0
    concurrency_key: str | None = None
    """Of all that have the same one, at most one runs at a time, in the order of `ordered_at` and `number`."""
    ordered_at: float = 0.0
    """The time that was asked for, which further attempts do not change."""
    cancelled_by: str | None = None
    """The id of the action by which somebody cancelled it."""
    number: int = 0

    @property
    def state(self) -> str:
        """`queued` before its time, `due` from then on, `running` once a worker has it."""
        if self.worker is not None:
            return "running"
        return "queued" if self.due_at > time.time() else "due"

    @classmethod
    def new(
        cls,
        action_id: UUID,
        action: str,
        queue: str,
        due_at: float | None,
        redeliver_after: float,
        *,
        priority: int = 0,
        key: str | None = None,
        carried: bool = True,
    ) -> Run:
        """A run that its maker publishes at once if it is due; otherwise, or if that fails, the dispatcher does.

        Not `carried` by a broker: the first message is a dispatcher's, should a broker have one.
        """
        now = time.time()
        due = now if due_at is None else due_at
        published = due <= now and carried
        publish_at = now + redeliver_after if published else due
        return cls(
            action_id,
            action,
            queue,
            now,
            due,
            publish_at,
            int(published),
            priority=priority,
            concurrency_key=key,
            ordered_at=due,
        )


def runs_table(backend: Backend) -> Table:
    """The table as SQLAlchemy takes it."""
    return _runs_table(backend.schema)


@cache
def _runs_table(schema: str | None) -> Table:
    types: dict[str, Any] = {
        "action_id": Uuid,
        "queued_at": Double,
        "due_at": Double,
        "publish_at": Double,
        "published": Integer,
        "attempts": Integer,
        "claimed_at": Double,
        "priority": Integer,
        "ordered_at": Double,
        "number": Integer,
    }
    columns = (Column(name, types.get(name, Text)) for name in Run._fields)
    return shared_table(RUNS, schema, *columns)


class Runs:
    """Reads and writes the rows; `bus.runs`. Methods that take a `connection` use it instead of a second one."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._table = runs_table(backend)
        now = backend.now
        self._now: ColumnElement[float] = shared(literal_column(now, Double))
        # One clock and one moment: what is due at once is due, and ordered, by when it is queued.
        named = (
            "action_id, action, queue, priority, concurrency_key, published, queued_at, due_at, ordered_at, publish_at"
        )
        insert = f"INSERT INTO {{schema}}{RUNS} ({named})"
        due = f"{backend.lesser}(?, {now})"
        self._insert_due = f"{insert} VALUES (?, ?, ?, ?, ?, ?, {now}, {due}, {due}, {now} + ?)"
        self._insert_later = f"{insert} VALUES (?, ?, ?, ?, ?, 0, {now}, ?, ?, ?)"
        self._delete = f"DELETE FROM {{schema}}{RUNS} WHERE action_id = ?"
        self._delete_unique = f"DELETE FROM {{schema}}{UNIQUE} WHERE action_id = ? AND until IS NULL"
        self._bury = f"""INSERT INTO {{schema}}{DEAD}
            (action_id, action, queue, status, attempts, queued_at, ended_at, problem)
            SELECT action_id, action, queue, ?, attempts - ?, queued_at, {now}, ? FROM {{schema}}{RUNS} AS ended
            WHERE action_id = ? AND NOT EXISTS (SELECT 1 FROM {{schema}}journal
                WHERE journal.action_id = ended.action_id AND kind = 'outcome')
            AND NOT EXISTS (SELECT 1 FROM {{schema}}{DEAD} AS dead WHERE dead.action_id = ended.action_id)"""
        self._reserve = f"""INSERT INTO {{schema}}{UNIQUE} (unique_key, action_id, until) VALUES (?, ?, {now} + ?)
            ON CONFLICT (unique_key) DO UPDATE SET action_id = excluded.action_id, until = excluded.until
            WHERE {UNIQUE}.until <= {now}"""

    def inserting(self, run: Run) -> Statement:
        """The statement that queues, to be run in the transaction of whoever queues."""
        named = (self._backend.written_id(run.action_id), run.action, run.queue, run.priority, run.concurrency_key)
        if run.due_at <= run.queued_at:
            wait = run.publish_at - run.queued_at if run.published else 0.0
            return Statement(self._insert_due, (*named, run.published, run.due_at, run.due_at, wait))
        return Statement(self._insert_later, (*named, run.due_at, run.ordered_at, run.publish_at))

    def deleting(self, action_id: UUID, *, unique: bool = False) -> Sequence[Statement]:
        """The statements that settle, to be run in the transaction that writes the outcome.

        `unique` says that the action keeps others from being queued until then.
        """
        known = (self._backend.written_id(action_id),)
        return [Statement(self._delete, known), *([Statement(self._delete_unique, known)] if unique else [])]

    def burying(self, action_id: UUID, status: str, problem: str, uncounted: int = 0) -> Statement:
        """The statement that keeps in sight what ended badly, to be run before its row is removed.

        `uncounted` of its claims were no attempts.
        """
        return Statement(self._bury, (status, uncounted, problem[:_PROBLEM], self._backend.written_id(action_id)))

    def reserving(self, key: str, action_id: UUID, seconds: float | None) -> Statement:
        """The statement that changes a row if no other action has this key of `Unique` now."""
        return Statement(self._reserve, (key, self._backend.written_id(action_id), seconds))

    def reserved_for(self, key: str) -> Statement:
        """A query for the action that has this key."""
        return Statement(f"SELECT action_id FROM {{schema}}{UNIQUE} WHERE unique_key = ?", (key,))

    def get(self, action_id: AnyId, connection: Connection | None = None) -> Run | None:
        """A run on its way, or None."""
        is_it = self._table.c.action_id == action_id_of(action_id)
        return next(iter(self._fetch(select(self._table).where(is_it), connection)), None)

    def all(
        self, limit: int = 1000, *, queue: str | None = None, action: str | None = None, state: str | None = None
    ) -> list[Run]:
        """Runs on their way, the first due first; at wish only those of a queue, an action, a state."""
        c = self._table.c
        wanted = select(self._table).order_by(c.due_at, c.number).limit(limit)
        if queue is not None:
            wanted = wanted.where(c.queue == queue)
        if action is not None:
            wanted = wanted.where(c.action == action)
        if state is not None:
            wanted = wanted.where(self._state() == state)
        return self._fetch(wanted)

    def counts(self) -> dict[str, int]:
        """How many are `queued`, `due` and `running`."""
        state = self._state()
        wanted = select(state, func.count()).group_by(state)
        rows: list[Any] = self._backend.read(lambda used: list(used.execute(wanted)))
        return dict.fromkeys(STATES, 0) | dict(map(tuple, rows))

    def is_cancelled(self, action_id: UUID) -> bool:
        """Whether somebody has cancelled it while it runs."""
        c = self._table.c
        wanted = select(c.cancelled_by).where(c.action_id == action_id)
        return bool(self._backend.read(lambda used: used.execute(wanted).scalar()))

    def waiting(self) -> set[UUID]:
        """The actions that no worker has."""
        wanted = select(self._table.c.action_id).where(self._table.c.worker.is_(None))
        return self._backend.read(lambda used: set(used.execute(wanted).scalars()))

    def running(self, older_than: float) -> list[Run]:
        """Runs that a worker has had for so many seconds at least."""
        c = self._table.c
        return self._fetch(select(self._table).where(c.worker.is_not(None), c.claimed_at <= self._now - older_than))

    def cancelled(self) -> list[Run]:
        """Runs that were cancelled and that no worker has."""
        c = self._table.c
        return self._fetch(select(self._table).where(c.cancelled_by.is_not(None), c.worker.is_(None)))

    def take_due(self, limit: int, redeliver_after: float, *, lost: bool = False) -> list[Run]:
        """Runs for which a message is to be sent now; with `lost`, also those whose last one is taken for lost.

        No two callers get the same, and each run comes again after `redeliver_after` seconds, doubled every time.
        """
        c = self._table.c
        ready = and_(c.worker.is_(None), self._is_due() if lost else c.publish_at <= self._now, ~self.is_paused())
        chosen = select(c.action_id).where(ready).order_by(c.priority.desc(), c.publish_at).limit(limit)
        if not self._backend.has_one_writer:
            chosen = chosen.with_for_update(skip_locked=True, of=self._table)
        pause = redeliver_after * self._doubled(12)
        pause = case((pause > LONGEST_PAUSE_S, LONGEST_PAUSE_S), else_=pause)
        return self._write(c.action_id.in_(chosen), {"published": c.published + 1, "publish_at": self._now + pause})

    def send_again(self, action_id: UUID, seconds: float, connection: Connection | None = None) -> None:
        """Send the next message after `seconds`: the broker did not take the last one."""
        self._write(self._table.c.action_id == action_id, {"publish_at": self._now + seconds}, connection)

    def hand_back(
        self, run: Run, seconds: float, problem: str, connection: Connection | None = None, *, begun: bool = True
    ) -> bool:
        """No worker has it any more, since the attempt did not finish; the next may begin after `seconds`.

        One that was not even `begun` costs none. False if another attempt has begun meanwhile.
        """
        c = self._table.c
        values = self._again_after(seconds, problem) | {"worker": None, "claimed_at": None}
        values |= {} if begun else {"attempts": c.attempts - 1}
        mine = and_(c.action_id == run.action_id, c.attempts == run.attempts, c.worker == run.worker)
        return bool(self._write(mine, values, connection))

    def leave_to_others(self, run: Run, problem: str, connection: Connection, *, carried: bool) -> float | None:
        """Let another worker begin what this one has claimed and cannot run: after how many seconds.

        Longer with every time, so that a deployment may take its time, and at most about a minute; at random, lest
        the next message finds the same worker listening again, as it would where all listen in step with the pauses.
        It costs no attempt. Where a broker carried it here, messages are counted by who sends them.
        """
        c = self._table.c
        part = random.uniform(0.5, 1.0)
        values = self._again_after(self._doubled(_DOUBLINGS_ELSEWHERE) * part, problem)
        values |= {"worker": None, "claimed_at": None, "attempts": c.attempts - 1}
        values |= {} if carried else {"published": c.published + 1}
        mine = and_(c.action_id == run.action_id, c.attempts == run.attempts, c.worker == run.worker)
        left = self._write(mine, values, connection)
        return part * 2 ** min(run.published, _DOUBLINGS_ELSEWHERE) if left else None

    def next_in(self) -> float | None:
        """In how many seconds the next message is to be sent; None if nothing waits."""
        next_one = select(func.min(self._table.c.publish_at) - self._now).where(self._table.c.worker.is_(None))
        found: float | None = self._backend.read(lambda connection: connection.execute(next_one).scalar())
        return found

    def is_paused(self) -> ColumnElement[bool]:
        """Whether a run's queue is paused."""
        queues = queues_table(self._backend)
        return select(queues.c.name).where(queues.c.name == self._table.c.queue, queues.c.paused == 1).exists()

    def _state(self) -> ColumnElement[str]:
        c = self._table.c
        return case((c.worker.is_not(None), "running"), (self._is_due(), "due"), else_="queued")

    def _is_due(self) -> ColumnElement[bool]:
        return self._table.c.due_at <= self._now

    def _doubled(self, times: int) -> ColumnElement[int]:
        """1, doubled with every message that was sent, so many times at most."""
        published = self._table.c.published
        return literal(1).bitwise_lshift(case((published > times, times), else_=published))

    def _again_after(self, seconds: Any, problem: str) -> dict[str, Any]:
        at = self._now + seconds
        return {"due_at": at, "publish_at": at, "problem": problem[:_PROBLEM]}

    def _write(self, which: Any, values: dict[str, Any], connection: Connection | None = None) -> list[Run]:
        return self._fetch(update(self._table).where(which).values(values).returning(*self._table.c), connection)

    def _fetch(self, statement: Any, connection: Connection | None = None) -> list[Run]:
        run = self._backend.read if statement.is_select else self._backend.write
        return run(lambda used: [Run(*row) for row in used.execute(statement)], connection)


def queues_table(backend: Backend) -> Table:
    """The table of queues: a row for each that was paused or has a rate."""
    return _queues_table(backend.schema)


@cache
def _queues_table(schema: str | None) -> Table:
    columns = (Column("name", Text), Column("paused", Integer), Column("next_at", Double))
    return shared_table(QUEUES, schema, *columns)
