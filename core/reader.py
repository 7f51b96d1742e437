"""Reads the journal in order without ever skipping a record, however its writers interleave. Used by `core.journal`.

On PostgreSQL positions are drawn before their transactions commit, so a later position can be visible while an
earlier one is not: a hole. It is either a rollback, for good, or a record about to appear. The argument:

1. A position is drawn inside the INSERT, whose transaction by then holds ROW EXCLUSIVE on `journal`, to its end.
2. A reader that sees position p in a snapshot knows that every smaller one was drawn before (the sequence has
   CACHE 1), by a transaction that has ended or still holds that lock. So the writers of all holes below p are among
   the holders listed *after* the snapshot was taken.
3. A transaction becomes visible before it gives its locks back. Once each of those holders has ended, a fresh
   snapshot shows everything that they committed; what is still missing below p is missing for good.

Nothing else can make a reader wait: no long transaction that does not write to the journal, no timeout, and no
lock of our own on the write path. A transaction prepared for two-phase commit keeps its lock, in some versions under
another name (`-1/xid`), so one that appears when a holder vanishes is waited for in its stead. A rolled-back savepoint
gives its lock back early, rightly: its positions are gone. On SQLite there is one writer: no hole can fill later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Integer, Select, Table, bindparam, func, select, text

from core.backend import Backend
from core.decoding import fetch
from core.errors import JournalUnavailable

log = logging.getLogger("actionbus")
BATCH: Final = 2_000
_SCAN: Final = 200_000
_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.1

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


class SettledReader:
    """Remembers how far the journal is settled, so that an old hole is looked into once per process."""

    def __init__(self, backend: Backend, table: Table, columns: Sequence[ColumnElement[Any]]) -> None:
        self._backend = backend
        self._table = table
        self._columns = columns
        self._has_holes = backend.engine.dialect.name == "postgresql"
        self._settled = 0
        self._guard = threading.Lock()

    def rows(
        self, after: int, upto: int | None, limit: int | None, conditions: Sequence[ColumnElement[bool]], *, wait: bool
    ) -> Iterator[Sequence[Any]]:
        """Rows beyond `after`, no further than `upto`, that meet the conditions; each batch in a snapshot of its own.

        Where no `upto` is given it is the last position now, so that reading comes to an end whatever is being written.
        """
        position = self._table.c.position
        beyond = select(*self._columns).where(position > bindparam("after"), *conditions).order_by(position)
        next_ones = beyond.limit(bindparam("size", type_=Integer))
        end = self.last() if upto is None else upto
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

    def last(self) -> int:
        """The last position that can be seen, settled or not."""
        with self._backend.connection() as connection:
            return int(connection.execute(select(func.max(self._table.c.position))).scalar() or 0)

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
        with self._backend.connection() as connection:
            batch = fetch(connection, statement, parameters)
        while batch and batch[-1][0] > settled:
            batch.pop()
        return batch

    def settled(self, *, wait: bool, patience: float | None = None) -> int:
        """The settled position; with `wait`, once the writers of the holes that are there now have ended.

        With `patience` (seconds) it is not waited longer than that; the holes are then still there.
        """
        with self._backend.connection() as connection:
            return self._advance(connection, wait=wait, patience=patience)

    def forget(self, known: int) -> None:
        """Look for holes again, but up to a position that is known to be settled."""
        with self._guard:
            self._settled = known

    def waiting_for(self) -> list[str]:
        """Who holds the hole at the settled end, if there is one."""
        with self._backend.connection() as connection:
            settled = self._advance(connection, wait=False)
            last = connection.execute(select(func.max(self._table.c.position))).scalar() or 0
            return self._described(connection, self._holders(connection)) if last > settled else []

    def _advance(self, connection: Connection, *, wait: bool, patience: float | None = None) -> int:
        """Move the settled position as far as this moment's snapshot and lock holders allow."""
        position = self._table.c.position
        if not self._has_holes:
            self._settle_to(connection.execute(select(func.max(position))).scalar() or 0)
            return self._settled
        self._refuse_standby(connection)
        while True:
            start = self._settled
            window = select(position).where(position > start).order_by(position).limit(_SCAN).subquery()
            count, last = connection.execute(select(func.count(), func.max(window.c.position))).one()
            if not count:
                return start
            if last - start == count:
                self._settle_to(last)
            elif not self._holders(connection):
                # Listed after the snapshot above: nobody is left who could fill a hole below `last`.
                self._settle_to(last)
            elif wait and self._outlast(connection, patience):
                self._settle_to(last)
            else:
                return self._before_hole(connection, start)

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
        self._settle_to(connection.execute(unbroken).scalar() or start)
        return self._settled

    def _settle_to(self, position: int) -> None:
        with self._guard:
            self._settled = max(self._settled, position)

    def _outlast(self, connection: Connection, patience: float | None) -> bool:
        """Wait until every transaction that holds the lock now has ended; whether they did before patience did."""
        known = self._holders(connection)
        waited_for, pause, told = known, _FIRST_PAUSE_S, False
        started = time.monotonic()
        while waited_for:
            if patience is not None and time.monotonic() - started > patience:
                return False
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
            now = self._holders(connection)
            if waited_for - now:
                # One that is gone may have been prepared instead, and hold its lock under a new name.
                waited_for = waited_for | {each for each in now if each.startswith("-1/") and each not in known}
            known = now
            waited_for = waited_for & now
            if not told and waited_for and time.monotonic() - started > 1:
                who = ", ".join(self._described(connection, waited_for))
                log.info("the reader waits at position %d for %s", self._settled + 1, who)
                told = True
        return True

    def _holders(self, connection: Connection) -> set[str]:
        """Who holds the lock, by virtual transaction."""
        return set(connection.execute(_HOLDERS, {"journal": self._backend.journal_name}).scalars())

    def _described(self, connection: Connection, holders: Iterable[str]) -> list[str]:
        names = {row.virtualtransaction: row.name for row in connection.execute(_WHO)}
        return sorted(names.get(each, f"transaction {each}") for each in holders)

    def _refuse_standby(self, connection: Connection) -> None:
        if self._settled == 0 and connection.execute(text("SELECT pg_is_in_recovery()")).scalar():
            raise JournalUnavailable(
                "this is a standby server, where nobody can tell which records may still appear; read from the primary"
            )
