"""What is kept of queues besides their runs: pauses, dead letters, schedules, reservations. All SQL on that.

`QueuesInside` is for the actions of operators, and of the scheduler, in whose transaction it writes.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.storage.queue_ddl import DEAD, QUEUES, RUNS, TICKS, UNIQUE
from actionbus.core.storage.rows import Statement
from actionbus.core.storage.together import run_inside

LEASE_S: Final = 15.0
"""How long a scheduler has a tick for itself; if it is gone by then, another one queues it."""


class DeadLetter(NamedTuple):
    """A queued action that ended as anything but succeeded, and that nobody ran again or set aside."""

    action_id: UUID
    action: str
    queue: str
    status: str
    attempts: int
    queued_at: float
    ended_at: float
    problem: str | None


class QueueState(NamedTuple):
    """A queue with what waits in it and runs."""

    name: str
    paused: bool
    waiting: int
    running: int


class Queues:
    """Reads, and writes what needs no action: leases, what is over."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def now(self) -> float:
        """This moment by the database's clock."""
        return float(self._rows(f"SELECT {self._backend.now}")[0][0])

    def dead_letters(self, limit: int = 1000) -> list[DeadLetter]:
        """Actions that were given up, the latest first."""
        names = ", ".join(DeadLetter._fields)
        rows = self._rows(f"SELECT {names} FROM {{home}}{DEAD} ORDER BY ended_at DESC, action_id LIMIT :n", n=limit)
        return [DeadLetter(UUID(str(row[0])), *row[1:]) for row in rows]

    def states(self) -> list[QueueState]:
        """The queues that are paused, or that have runs."""
        paused = {name for (name,) in self._rows(f"SELECT name FROM {{home}}{QUEUES} WHERE paused = 1")}
        counted = self._rows(f"SELECT queue, count(*), count(worker) FROM {{home}}{RUNS} GROUP BY queue")
        counts = {name: (whole - running, running) for name, whole, running in counted}
        return [QueueState(name, name in paused, *counts.get(name, (0, 0))) for name in sorted({*paused, *counts})]

    def tick_of(self, action: str, schedule: str) -> tuple[float, bool]:
        """When a schedule was looked at last, or saw the light of day; and whether nobody has a lease on it."""
        insert = f"""INSERT INTO {{home}}{TICKS} (action, schedule, ticked_at)
            VALUES (:action, :schedule, {self._backend.now}) ON CONFLICT (action, schedule) DO NOTHING"""
        select = f"""SELECT ticked_at, leased_until <= {self._backend.now} FROM {{home}}{TICKS}
            WHERE action = :action AND schedule = :schedule"""
        found = self._rows(select, action=action, schedule=schedule)
        if not found:
            self._run(insert, action=action, schedule=schedule)
            found = self._rows(select, action=action, schedule=schedule)
        return float(found[0][0]), bool(found[0][1])

    def lease(self, action: str, schedule: str, ticked_at: float) -> bool:
        """Have the next tick of a schedule for oneself for a while, so that one of many schedulers queues it."""
        update = f"""UPDATE {{home}}{TICKS} SET leased_until = {self._backend.now} + :seconds WHERE action = :action
            AND schedule = :schedule AND ticked_at = :ticked_at AND leased_until <= {self._backend.now}"""
        return self._run(update, seconds=LEASE_S, action=action, schedule=schedule, ticked_at=ticked_at) > 0

    def forget_reservations(self) -> int:
        """Remove reservations of `Unique` whose time is over; how many."""
        return self._run(f"DELETE FROM {{home}}{UNIQUE} WHERE until <= {self._backend.now}")

    def _rows(self, sql: str, **values: Any) -> list[Any]:
        return self._backend.read(lambda used: list(used.execute(self._text(sql), values)))

    def _run(self, sql: str, **values: Any) -> int:
        return self._backend.write(lambda used: int(used.execute(self._text(sql), values).rowcount))

    def _text(self, sql: str) -> Any:
        return text(sql.replace("{home}", in_text(self._backend.prefix)))


class QueuesInside:
    """The decisions of operators and schedulers, in the transaction of the action by which each is made."""

    def __init__(self, backend: Backend, connection: Connection) -> None:
        self._backend, self._connection = backend, connection

    def cancel(self, action_id: UUID, by: UUID) -> str | None:
        """Note that a run is cancelled; what it was doing, or None if there is no such run."""
        known = self._backend.written_id(action_id)
        update = (
            f"UPDATE {{schema}}{RUNS} SET cancelled_by = coalesce(cancelled_by, ?) WHERE action_id = ? RETURNING worker"
        )
        changed = self._rows(update, str(by), known)
        return None if not changed else "waiting" if changed[0][0] is None else "running"

    def forget_dead(self, action_id: UUID) -> bool:
        """Take an action off the dead letters; whether it was one."""
        known = self._backend.written_id(action_id)
        return self._count(f"DELETE FROM {{schema}}{DEAD} WHERE action_id = ?", known) > 0

    def reschedule(self, action_id: UUID, due: float | None) -> float | None:
        """Let a run be due at another time, None for now; when that is, or None if no such run waits."""
        now = self._backend.now
        at = "?" if due is not None else now
        values = () if due is None else (due, due, due)
        update = f"""UPDATE {{schema}}{RUNS} SET due_at = {at}, ordered_at = {at}, publish_at = {at}
            WHERE action_id = ? AND worker IS NULL AND cancelled_by IS NULL RETURNING due_at"""
        found = self._rows(update, *values, self._backend.written_id(action_id))
        return float(found[0][0]) if found else None

    def is_there(self, action_id: UUID) -> bool:
        """Whether there is such a run."""
        known = self._backend.written_id(action_id)
        return bool(self._rows(f"SELECT 1 FROM {{schema}}{RUNS} WHERE action_id = ?", known))

    def is_known(self, queue: str) -> bool:
        """Whether a queue of this name is paused, or has runs."""
        known = f"""SELECT 1 FROM {{schema}}{RUNS} WHERE queue = ?
            UNION ALL SELECT 1 FROM {{schema}}{QUEUES} WHERE name = ? LIMIT 1"""
        return bool(self._rows(known, queue, queue))

    def pause(self, queue: str, *, paused: bool) -> bool:
        """Pause or resume a queue; whether that changes anything."""
        was = bool(self._rows(f"SELECT 1 FROM {{schema}}{QUEUES} WHERE name = ? AND paused = 1", queue))
        self._count(
            f"""INSERT INTO {{schema}}{QUEUES} (name, paused) VALUES (?, ?)
            ON CONFLICT (name) DO UPDATE SET paused = excluded.paused""",
            queue,
            int(paused),
        )
        if not paused:
            self._count(
                f"""UPDATE {{schema}}{RUNS} SET publish_at = {self._backend.now}
                WHERE queue = ? AND worker IS NULL AND due_at <= {self._backend.now}""",
                queue,
            )
        return was is not paused

    def tick(self, action: str, schedule: str, before: float, tick: float) -> bool:
        """Move a schedule on to `tick`, if it still is where it was seen; whether that was so."""
        update = f"""UPDATE {{schema}}{TICKS} SET ticked_at = ?, leased_until = 0
            WHERE action = ? AND schedule = ? AND ticked_at = ?"""
        return self._count(update, tick, action, schedule, before) > 0

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        return list(run_inside(self._backend, self._connection, Statement(sql, values)))

    def _count(self, sql: str, *values: Any) -> int:
        return int(run_inside(self._backend, self._connection, Statement(sql, values)).rowcount)
