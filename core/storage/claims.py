"""Claims: the one place where it is decided which queued action a worker begins next. Used by `queueing.claiming`.

Whoever woke the worker, a broker's message, a NOTIFY or the clock, it comes here, and here everything is looked at in
one statement by the database's clock: due, not cancelled, no worker's yet, its queue not paused and within its limits,
first of its key. See docs/decisions/0029-claims.md for why no more is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Double, and_, func, literal_column, or_, select, update
from sqlalchemy.exc import IntegrityError

from actionbus.core.storage.backend import Backend
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.queue_ddl import QUEUES
from actionbus.core.storage.rows import Statement
from actionbus.core.storage.runs import Run, queues_table, runs_table
from actionbus.core.storage.shared import shared

_TRIES: Final = 5
"""How often another run is chosen when the one chosen turned out to share its key with one that had just begun."""


class Limit(NamedTuple):
    """Of a queue: how many of its runs go on at a time, None for any; seconds between two beginnings."""

    name: str
    concurrency: int | None
    interval: float


class Claims:
    """Gives runs to workers, within the limits of an application's queues."""

    def __init__(self, backend: Backend, limits: Sequence[Limit] = (), *, carried: bool = False) -> None:
        """`carried` says that a broker wakes workers, who need another message where this one came too early."""
        self._carried = carried
        self._backend = backend
        self._limits: Mapping[str, Limit] = {queue.name: queue for queue in limits}
        self._table, self._queues = runs_table(backend), queues_table(backend)
        self._now: ColumnElement[float] = shared(literal_column(backend.now, Double))
        self._known: set[str] = set()

    def take(
        self,
        connection: Connection,
        worker: str,
        redeliver_after: float,
        *,
        queues: Sequence[str] | None = None,
        only: UUID | None = None,
    ) -> Run | None:
        """Note that `worker` begins the next run: of these queues, or that one if it may begin now; None if none may.

        An attempt is counted by this. `redeliver_after` is when a message is sent should nothing more be heard of it.
        """
        if self._backend.has_one_writer and not self._is_any(connection, queues, only):
            return None  # looked at first, so that workers with nothing to do keep nobody from writing
        limited = [name for name in self._limits if queues is None or name in queues]
        for _ in range(_TRIES):
            try:
                if limited:
                    return self._take_within_limits(connection, worker, redeliver_after, queues, only, limited)
                taking = self._taking(worker, redeliver_after, self._open(queues, only))
                return self._backend.write(partial(_run_of, taking), connection)
            except IntegrityError:
                # Another of its key began between the look and the write, which the index on keys refused.
                continue
        return None

    def rated_in(self, queues: Sequence[str] | None) -> float | None:
        """In how many seconds the next run of a queue with a rate may begin; None if nothing waits for that."""
        q, c = self._queues.c, self._table.c
        waits = select(c.number).where(c.queue == q.name, c.worker.is_(None), c.due_at <= self._now).exists()
        wanted = select(func.min(q.next_at) - self._now).where(q.next_at > self._now, q.paused == 0, waits)
        if queues is not None:
            wanted = wanted.where(q.name.in_(queues))
        found: float | None = self._backend.read(lambda used: used.execute(wanted).scalar())
        return found

    def due_in(self, queues: Sequence[str] | None) -> float | None:
        """In how many seconds the next run comes due; None if none waits for its time."""
        c = self._table.c
        wanted = select(func.min(c.due_at) - self._now).where(c.worker.is_(None), c.due_at > self._now)
        if queues is not None:
            wanted = wanted.where(c.queue.in_(queues))
        found: float | None = self._backend.read(lambda used: used.execute(wanted).scalar())
        return found

    def is_limited(self, queue: str) -> bool:
        """Whether a queue has limits, so that the end of one of its runs may let another begin."""
        return queue in self._limits

    def waiting_for(self, run: Run, connection: Connection) -> str | None:
        """The queue of a run that could not begin before this one's end; None if there is none."""
        c = self._table.c
        behind = c.queue == run.queue if self.is_limited(run.queue) else c.number.is_(None)
        if run.concurrency_key is not None:
            behind = or_(behind, c.concurrency_key == run.concurrency_key)
        first = select(c.queue).where(behind, c.worker.is_(None), c.due_at <= self._now)
        first = first.order_by(c.priority.desc(), c.due_at, c.number).limit(1)
        found: str | None = self._backend.read(lambda used: used.execute(first).scalar(), connection)
        return found

    def _open(self, queues: Sequence[str] | None, only: UUID | None) -> ColumnElement[bool]:
        """Which runs may begin, but for limits."""
        c, other = self._table.c, self._table.alias("other")
        o = other.c
        before = or_(
            o.worker.is_not(None),
            o.ordered_at < c.ordered_at,
            and_(o.ordered_at == c.ordered_at, o.number < c.number),
        )
        first = ~select(o.number).where(o.concurrency_key == c.concurrency_key, o.number != c.number, before).exists()
        q = self._queues.c
        paused = select(q.name).where(q.name == c.queue, q.paused == 1).exists()
        conditions = [
            c.worker.is_(None),
            c.cancelled_by.is_(None),
            c.due_at <= self._now,
            ~paused,
            or_(c.concurrency_key.is_(None), first),
        ]
        if only is not None:
            conditions.append(c.action_id == only)
        elif queues is not None:
            conditions.append(c.queue.in_(queues))
        return and_(*conditions)

    def _is_any(self, connection: Connection, queues: Sequence[str] | None, only: UUID | None) -> bool:
        wanted = select(self._table.c.number).where(self._open(queues, only)).limit(1)
        return self._backend.read(lambda used: used.execute(wanted).first() is not None, connection)

    def _taking(self, worker: str, redeliver_after: float, which: ColumnElement[bool]) -> Any:
        c = self._table.c
        chosen = select(c.number).where(which).order_by(c.priority.desc(), c.due_at, c.number).limit(1)
        if not self._backend.has_one_writer:
            chosen = chosen.with_for_update(skip_locked=True, of=self._table)
        values = {
            "worker": worker,
            "claimed_at": self._now,
            "attempts": c.attempts + 1,
            "publish_at": self._now + redeliver_after,
        }
        # `=` and not `IN`: PostgreSQL then chooses once, whatever its plan.
        which_one = update(self._table).where(c.number == chosen.scalar_subquery())
        return which_one.values(values).returning(*self._table.c)

    def _take_within_limits(
        self,
        connection: Connection,
        worker: str,
        redeliver_after: float,
        queues: Sequence[str] | None,
        only: UUID | None,
        limited: Sequence[str],
    ) -> Run | None:
        """As without, while nobody else takes from the limited ones: so what is counted is what there is."""
        self._make_known(connection, limited)
        c, q = self._table.c, self._queues.c
        with self._transaction(connection) as used:
            locked = select(q.name, q.next_at <= self._now).where(q.name.in_(limited)).order_by(q.name)
            if not self._backend.has_one_writer:
                locked = locked.with_for_update()
            rated = {name for name, is_open in used.execute(locked) if not is_open}
            if self._carried and rated:
                used.execute(self._sending_when_open(sorted(rated)))
            counting = select(c.queue, func.count()).where(c.worker.is_not(None), c.queue.in_(limited))
            running: dict[str, int] = dict(map(tuple, used.execute(counting.group_by(c.queue))))
            closed = [name for name in limited if self._is_closed(name, running.get(name, 0), rated)]
            which = and_(self._open(queues, only), c.queue.not_in(closed))
            run = _run_of(self._taking(worker, redeliver_after, which), used)
            if run is not None and (limit := self._limits.get(run.queue)) and limit.interval:
                used.execute(update(self._queues).where(q.name == run.queue).values(next_at=self._now + limit.interval))
            return run

    def _sending_when_open(self, rated: Sequence[str]) -> Any:
        """The next message for the first that waits in each of these queues is sent when that may begin again."""
        c, q, other = self._table.c, self._queues.c, self._table.alias("first")
        o = other.c
        waits = select(o.number).where(o.queue == c.queue, o.worker.is_(None), o.due_at <= self._now)
        first = waits.order_by(o.priority.desc(), o.due_at, o.number).limit(1).scalar_subquery()
        opens = select(q.next_at).where(q.name == c.queue).scalar_subquery()
        which = and_(c.queue.in_(rated), c.number == first, c.publish_at > opens)
        return update(self._table).where(which).values(publish_at=opens)

    def _is_closed(self, name: str, running: int, rated: set[str]) -> bool:
        limit = self._limits[name]
        return (limit.interval > 0 and name in rated) or (
            limit.concurrency is not None and running >= limit.concurrency
        )

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[Connection]:
        """A transaction on a connection of the gateway, whose driver is in autocommit mode."""
        dbapi: Any = driver_connection(connection)
        cursor = dbapi.cursor()
        with self._backend.placed(connection):
            # READ COMMITTED: what is counted is counted once the lock is had.
            cursor.execute(
                "BEGIN IMMEDIATE" if self._backend.has_one_writer else "BEGIN ISOLATION LEVEL READ COMMITTED"
            )
            try:
                yield connection
                cursor.execute("COMMIT")
            except BaseException:
                self._backend.rollback(connection)
                raise
            finally:
                connection.rollback()  # ends what SQLAlchemy takes for a transaction; the driver's is over

    def _make_known(self, connection: Connection, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._known:
                sql = f"INSERT INTO {{schema}}{QUEUES} (name) VALUES (?) ON CONFLICT (name) DO NOTHING"
                self._backend.run_alone(connection, Statement(sql, (name,)))
                self._known.add(name)


def _run_of(taking: Any, used: Connection) -> Run | None:
    found = used.execute(taking).first()
    return Run(*found) if found else None
