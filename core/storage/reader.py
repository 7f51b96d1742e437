"""Reads the journal in order without ever skipping a record, however its writers interleave. Used by `core.journal`.

On PostgreSQL positions are drawn before their transactions commit, so a later position can be visible while an
earlier one is not: a hole. It is either a rollback, for good, or a record about to appear. The argument:

1. A position is drawn inside the INSERT, whose transaction by then holds ROW EXCLUSIVE on `journal`, to its end.
2. A reader that sees position p in a snapshot knows that every smaller one was drawn before (the sequence has
   CACHE 1), by a transaction that has ended or still holds that lock. So the writers of all holes below p are among
   the holders listed *after* the snapshot was taken.
3. A transaction becomes visible before it gives its locks back. Once each of those holders has ended, a fresh
   snapshot shows everything that they committed; what is still missing below p is missing for good.

So no count of the journal is needed to know how far it is settled: once those who hold the lock at some moment have
ended, that is up to the last position seen before. Where a process looks for the first time in a long journal it goes
by that, and waits a moment for them. Holes are only looked for while somebody holds the lock for long.

Nothing else can make a reader wait: no long transaction that does not write to the journal, no timeout, and no
lock of our own on the write path. A transaction prepared for two-phase commit keeps its lock, in some versions under
another name (`-1/xid`), so one that appears when a holder vanishes is waited for in its stead. A rolled-back savepoint
gives its lock back early, rightly: its positions are gone.

"For good" must survive a crash of the server, which takes back what was committed and not yet flushed (a submitted
record is, for a moment), and gives its position to another record. So nothing is settled before it is flushed:

4. A transaction's commit record is in the log before the transaction is visible, and before it gives its locks back.
   So the log's insert position, taken after the snapshot and after the last holder has ended, lies beyond the commits
   of all records up to p, those that appeared meanwhile included, and beyond whatever the sequence logged for them.
5. Once the log is flushed that far, a crash keeps those records, and a sequence beyond p: no position up to p is
   drawn again. Where it is not, the reader commits a transaction of its own, of one message, synchronously, which
   flushes everything before it. That takes one fsync, the one that the next commit would have done, and waits for
   nobody; the log's own writer would take 600 ms. It needs no right that not everybody has.
6. Flush and position are seen on one connection, which no crash of the server survives: a position of before a crash
   is never compared with a log of after it. What was settled stays so, since a crash does not touch it.

On a standby nobody can see the holders, and on a logical subscriber rows arrive in the order of their commits: both are
refused. On SQLite there is one writer: no hole can fill later. Its readers are on the writer's own machine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Select,
    Table,
    bindparam,
    column,
    func,
    literal_column,
    select,
    table,
    text,
)

from actionbus.core.errors import JournalUnavailable
from actionbus.core.storage.archive_ddl import ENDS
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.storage.positions import refused_to_read
from actionbus.core.storage.rights import STANDBY
from actionbus.core.storage.row_decoding import fetch
from actionbus.core.storage.shared import shared
from actionbus.core.storage.stretches import Stretch, StretchReader
from actionbus.core.values.backoff import growing
from actionbus.core.values.journal_filter import JournalFilter

log = logging.getLogger("actionbus")
BATCH: Final = 2_000
_TOLD_AFTER_S: Final = 1.0
_SCAN: Final = 10_000
"""Positions among which a hole is looked for at once; beyond so many only if somebody writes for long."""
_MOMENT_S: Final = 0.2
"""Longer than nearly all writers hold the lock, which is from the last statement of an action to its commit."""

_HOLDERS: Final = text("""
    SELECT DISTINCT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = to_regclass(:journal) AND granted AND mode = 'RowExclusiveLock'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND pid IS DISTINCT FROM pg_backend_pid()
""")
_WHO: Final = text("""
    SELECT l.virtualtransaction, coalesce('prepared transaction ' || p.gid, 'process ' || l.pid) AS name
    FROM pg_locks l LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = l.transactionid
    WHERE l.locktype = 'transactionid' AND l.granted
""")
_IS_FLUSHED: Final = "pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()"
"""Of all that the statement's snapshot shows: the functions are called after it was taken."""
_FLUSH: Final = text(
    "SELECT set_config('synchronous_commit', 'local', true), "
    "pg_logical_emit_message(true, 'actionbus', CAST('flush' AS text))"
)
_SUBSCRIBED: Final = table("pg_subscription_rel", column("srrelid"), schema="pg_catalog")


class SettledReader:
    """Remembers how far the journal is settled, so that an old hole is looked into once per process."""

    def __init__(self, backend: Backend, table: Table, columns: Sequence[ColumnElement[Any]]) -> None:
        self._backend = backend
        self._table = table
        self._columns = [shared(each) for each in columns]
        self._has_holes = not backend.has_one_writer
        self._probe = _probe(table)
        self._settled = 0
        self._knows_beginning = False
        self._guard = threading.Lock()
        self._stretches = StretchReader(backend, table)

    def rows(
        self, after: int, upto: int | None, limit: int | None, conditions: Sequence[ColumnElement[bool]], *, wait: bool
    ) -> Iterator[Sequence[Any]]:
        """Rows beyond `after`, no further than `upto`, that meet the conditions; each batch in a snapshot of its own.

        Where no `upto` is given it is the last position now, so that reading comes to an end whatever is being written.
        """
        position = self._table.c.position
        beyond = select(*self._columns).where(position > bindparam("after"), *conditions).order_by(position)
        next_ones = beyond.limit(bindparam("size", type_=Integer))
        end = self.end(upto)
        left = limit
        while after < end and (left is None or left > 0):
            settled = min(self._beyond(after, wait), end)
            if settled <= after:
                return
            size = BATCH if left is None else min(left, BATCH)
            batch = self._batch(next_ones, {"after": after, "size": size}, settled)
            yield from batch
            after = batch[-1][0] if len(batch) == size else settled
            left = None if left is None else left - len(batch)

    def stretch(self, after: int, upto: int, where: JournalFilter, *, limit: int, room: int) -> Stretch:
        """The next rows beyond `after` up to a position that is settled: `limit` of them, or about `room` bytes."""
        return self._stretches.read(after, upto, where, limit, room)

    def last(self) -> int:
        """The last position that can be seen, settled or not."""
        return self._backend.read(self._last_here)

    def end(self, upto: int | None = None) -> int:
        """The last position now, unless one is given, on a server that is read in order; so an empty answer is one."""
        if upto is not None:
            return upto
        return self._backend.read(self._end_here) if self._has_holes else self.last()

    def _end_here(self, connection: Connection) -> int:
        here = select(func.max(self._table.c.position), _is_subscribed(), func.pg_is_in_recovery())
        last, is_subscribed, is_standby = connection.execute(here, {"journal": self._backend.journal_name}).one()
        if is_standby:
            raise JournalUnavailable(STANDBY)
        if is_subscribed:
            raise refused_to_read(self._backend.home)
        return last or 0

    def settled_upto(self, end: int, *, wait: bool) -> int:
        """How far the journal is settled, at most to `end`; waited for up to there if that is asked for."""
        settled = self._beyond(end - 1, wait)
        return min(settled, end)

    def _beyond(self, after: int, wait: bool) -> int:
        """A settled position beyond `after`, if there is one: remembered, seen now, or waited for."""
        if self._settled > after:
            return self._settled
        settled = self.settled(wait=False)
        return self.settled(wait=True) if wait and settled <= after else settled

    def _batch(self, statement: Select[Any], parameters: dict[str, int], settled: int) -> list[Any]:
        """The next rows up to `settled`, the position first in each.

        The upper bound is kept to here: in the query it makes PostgreSQL, while it has no statistics, sort the whole
        range for every batch instead of walking along the index.
        """
        batch = self._backend.read(lambda connection: fetch(connection, statement, parameters))
        while batch and batch[-1][0] > settled:
            batch.pop()
        return batch

    def settled(self, *, wait: bool, patience: float | None = None) -> int:
        """The settled position; with `wait`, once the writers of the holes that are there now have ended.

        Without, writers are waited for only where a long journal is looked at for the first time, and a moment at most.

        With `patience` (seconds) it is not waited longer than that; the holes are then still there.
        """
        return self._backend.read(lambda connection: self._advance(connection, wait=wait, patience=patience))

    def forget(self, known: int) -> None:
        """Look for holes again, but up to a position that is known to be settled."""
        with self._guard:
            self._settled = known
            self._knows_beginning = False

    def outlast_writers(self) -> None:
        """Wait until every transaction that holds the lock now has ended. On SQLite there is one writer.

        Raises JournalUnavailable on a server where nobody can see them.
        """
        if self._has_holes:
            self._backend.read(self._end_here)
            self._backend.read(lambda connection: self._outlast(connection, None, logging.WARNING))

    def waiting_for(self) -> list[str]:
        """Who holds the hole at the settled end, if there is one."""
        return self._backend.read(self._waited_for)

    def _waited_for(self, connection: Connection) -> list[str]:
        settled = self._advance(connection, wait=False)
        behind = self._last_here(connection) > settled
        return self._described(connection, self._holders(connection)) if behind else []

    def _advance(self, connection: Connection, *, wait: bool, patience: float | None = None) -> int:
        """Move the settled position as far as this moment's snapshot and lock holders allow."""
        if not self._knows_beginning:  # what was archived is no hole that somebody could fill
            begins = connection.execute(text(ENDS.format(home=in_text(self._backend.prefix)))).scalar_one()
            self._settle_to(begins)
            self._knows_beginning = bool(begins or self._settled)
        if not self._has_holes:
            self._settle_to(self._last_here(connection))
            return self._settled
        is_slow = False
        while True:
            start = self._settled
            given = {"start": start, "journal": self._backend.journal_name}
            count, last, is_flushed, is_subscribed = connection.execute(self._probe, given).one()
            if is_subscribed:
                raise refused_to_read(self._backend.home)
            if not count:
                return start
            if count == _SCAN and not is_slow:
                if self._settle_at_once(connection, patience if wait else _MOMENT_S):
                    return self._settled
                is_slow = True
            if last - start != count:
                # Listed after the snapshot above: without holders, nobody is left who could fill a hole.
                if self._holders(connection) and not (wait and self._outlast(connection, patience)):
                    return self._before_hole(connection, start)
                is_flushed = False  # not of what was committed since
            if not is_flushed:
                self._flush(connection)
            self._settle_to(last)
            if count < _SCAN:
                return self._settled

    def _settle_at_once(self, connection: Connection, patience: float | None) -> bool:
        """Settle to the end without looking for holes, as a process that begins would have to in the whole journal.

        Once all who hold the lock now have ended, nobody is left who could fill any; argument 3 asks for no more. False
        if they hold it for longer than that.
        """
        last = self._last_here(connection)
        if self._holders(connection) and not self._outlast(connection, patience):
            return False
        self._flush(connection)
        self._settle_to(last)
        return True

    def _last_here(self, connection: Connection) -> int:
        return int(connection.execute(select(func.max(self._table.c.position))).scalar() or 0)

    def _flush(self, connection: Connection) -> None:
        """Have everything flushed that is visible by now, unless it is."""
        if not connection.execute(text(f"SELECT {_IS_FLUSHED}")).scalar_one():
            connection.execute(_FLUSH)

    def _before_hole(self, connection: Connection, start: int) -> int:
        position = self._table.c.position
        numbered = (
            select(position, func.row_number().over(order_by=position).label("number"))
            .where(position > start)
            .order_by(position)
            .limit(_SCAN)
            .subquery()
        )
        unbroken = select(func.max(numbered.c.position)).where(numbered.c.position == numbered.c.number + start)
        end = connection.execute(unbroken).scalar() or start
        if end > start:
            self._flush(connection)
        self._settle_to(end)
        return self._settled

    def _settle_to(self, position: int) -> None:
        with self._guard:
            self._settled = max(self._settled, position)

    def _outlast(self, connection: Connection, patience: float | None, level: int = logging.INFO) -> bool:
        """Wait until every transaction that holds the lock now has ended; whether they did before patience did.

        After a while it is logged whom it waits for.
        """
        known = self._holders(connection)
        waited_for, pauses, told = known, growing(0.001, 0.1), False
        started = time.monotonic()
        while waited_for:
            if patience is not None and time.monotonic() - started > patience:
                return False
            time.sleep(next(pauses))
            now = self._holders(connection)
            if waited_for - now:
                # One that is gone may have been prepared instead, and hold its lock under a new name.
                waited_for = waited_for | {each for each in now if each.startswith("-1/") and each not in known}
            known = now
            waited_for = waited_for & now
            if not told and waited_for and time.monotonic() - started > _TOLD_AFTER_S:
                who = ", ".join(self._described(connection, waited_for))
                log.log(
                    level,
                    "the journal waits at position %d until these have ended: %s",
                    self._settled + 1,
                    who,
                )
                told = True
        return True

    def _holders(self, connection: Connection) -> set[str]:
        """Who holds the lock, by virtual transaction."""
        return set(connection.execute(_HOLDERS, {"journal": self._backend.journal_name}).scalars())

    def _described(self, connection: Connection, holders: Iterable[str]) -> list[str]:
        names = {row.virtualtransaction: row.name for row in connection.execute(_WHO)}
        return sorted(names.get(each, f"transaction {each}") for each in holders)


def _probe(journal: Table) -> Executable:
    """How many records there are beyond `start`, the last of them, whether all are flushed; whether they come from
    another server's journal."""
    position = journal.c.position
    beyond = select(position).where(position > bindparam("start")).order_by(position).limit(_SCAN).subquery()
    return select(func.count(), func.max(beyond.c.position), literal_column(_IS_FLUSHED), _is_subscribed())


def _is_subscribed() -> ColumnElement[bool]:
    of_journal = _SUBSCRIBED.c.srrelid == func.to_regclass(bindparam("journal"))
    return select(_SUBSCRIBED.c.srrelid).where(of_journal).exists()
