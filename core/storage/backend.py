"""What the journal asks of a database; `storage.postgresql` and `storage.sqlite` answer, `storage.engines` chooses.

All SQL on the write path of an action is in those two files, and in those beside them whose names begin like theirs.
How connections are had is in `storage.connections`.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from actionbus.core.errors import JournalUnavailable, chain_of
from actionbus.core.storage.connections import GatewayConnections
from actionbus.core.storage.connections import TakenConnection as TakenConnection
from actionbus.core.storage.drivers import driver_connection, driver_error
from actionbus.core.storage.missing import NO_JOURNAL, is_missing
from actionbus.core.storage.names import quoted as quoted
from actionbus.core.storage.parts import HeldRecords, Parts
from actionbus.core.storage.rows import RecordPlace, Row, Statement
from actionbus.core.values.backoff import scattered

T = TypeVar("T")
ATTEMPTS: Final = 10
"""Of one statement, before a serialization failure is reported."""


class TransactionState(Enum):
    """What a driver knows of its connection's transaction, without asking the server."""

    NONE = "none"
    OPEN = "open"
    ABORTED = "aborted"
    """Open, but an error has taken all of it back already."""


class Backend(GatewayConnections):
    """One database: its engine, every statement of an action's write path, and in what it differs from the other."""

    has_one_writer: bool
    """Whether one transaction at a time writes, so that positions are committed in their order."""
    can_announce: bool
    """Whether it tells other processes of a commit (LISTEN and NOTIFY)."""
    now: str
    """SQL for this moment, in seconds since 1970 by the database's clock."""
    lesser: str
    """The SQL function that gives the lesser of two values."""

    def __init__(self, engine: Engine, schema: str | None, *, own_engine: bool) -> None:
        super().__init__(engine, own_engine=own_engine)
        self.schema = schema
        self.home = schema
        """The schema where the journal is; None on PostgreSQL while nobody has looked, or if there is none."""
        self.uses = {"append"}
        """What the bus does with its connections; see `storage.rights`."""

    @abstractmethod
    def utc(self, stored: Any) -> datetime:
        """A time of the journal's as the driver gives it."""

    @abstractmethod
    def comparable(self, moment: datetime) -> datetime:
        """An aware time as it is compared with the journal's."""

    def stored(self, moment: datetime) -> datetime | str:
        """An aware time as the driver takes it for a column of ours: as text where the database has no type for it."""
        found = self.comparable(moment)
        return found if found.tzinfo else found.isoformat(" ", "microseconds")

    @property
    def prefix(self) -> str:
        """What stands before a name of ours in SQL."""
        return f"{quoted(self.home)}." if self.home else ""

    @property
    def journal_name(self) -> str:
        """The journal's name in SQL."""
        return f"{self.prefix}journal"

    @cached_property
    def driver_errors(self) -> type[Exception]:
        """What the driver's errors are."""
        found: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        return found

    @contextmanager
    def placed(self, connection: Connection) -> Iterator[None]:
        """Meanwhile, names of ours that have no schema mean what is beside the journal."""
        yield

    def read(self, work: Callable[[Connection], T], connection: Connection | None = None) -> T:
        """What `work` reads by a statement of its own, on a pooled connection or on one that is given.

        Tried again where the database's default isolation made it fail, and once if the pooled connection was stale.
        """
        return self._short(work, connection, again_if_lost=connection is None)

    def write(self, work: Callable[[Connection], T], connection: Connection | None = None) -> T:
        """The same for a statement that writes, which is not sent twice when its answer was lost."""
        return self._short(work, connection, again_if_lost=False)

    def _short(self, work: Callable[[Connection], T], connection: Connection | None, *, again_if_lost: bool) -> T:
        for number in range(1, ATTEMPTS + 1):
            with self.on(connection) as used:
                try:
                    with self.placed(used):
                        return work(used)
                except Exception as error:
                    if again_if_lost and self.is_lost(error, used):
                        again_if_lost = False
                        self.renew_pool()
                    elif number == ATTEMPTS or not self.chain_is_transient(error) or self.in_transaction(used):
                        self.explain(error, used)
                        raise
            pause(number)
        raise AssertionError("the last attempt either returns or raises")

    def explain(self, error: Exception, connection: Connection) -> None:
        """Raises JournalUnavailable, which says what to do, where the database only says that it refuses."""
        if is_missing(error):
            raise JournalUnavailable(NO_JOURNAL) from error

    def in_transaction(self, connection: Connection) -> bool:
        """Whether the driver's connection is inside a transaction, so that one statement cannot be run again alone."""
        return self.state(driver_connection(connection)) is not TransactionState.NONE

    @abstractmethod
    def append_submitted(self, connection: Connection, row: Row, *, durable: bool) -> RecordPlace | None:
        """Append and commit; None if its idempotency key, or the action itself, is in the journal already."""

    @abstractmethod
    def begin(self, connection: Connection, isolation: str, action_id: UUID) -> None:
        """Begin the action's transaction."""

    @abstractmethod
    def enter_nested(self, connection: Connection, action_id: UUID) -> str | None:
        """From here on changed rows are this nested action's; SQL for that, to ride on its savepoint, if there is any.

        If it fails, they are the outer action's again with the end of the savepoint.
        """

    @abstractmethod
    def leave_nested(self, connection: Connection, action_id: UUID, outer_id: UUID) -> str | None:
        """A nested action has succeeded: rows are the outer one's again. SQL to ride on its savepoint's release."""

    @abstractmethod
    def state(self, dbapi: Any) -> TransactionState:
        """What the driver knows of its transaction; costs no round trip."""

    def is_at_rest(self, dbapi: Any) -> bool:
        """Whether the driver is not in the middle of an answer."""
        return True

    @abstractmethod
    def watch(self, connection: Connection, transaction: Any) -> None:
        """Let `transaction` be asked before each statement of the driver's own cursors; None ends it."""

    @abstractmethod
    def seen(self, connection: Connection) -> str | None:
        """The snapshot that the transaction sees, for an attempt to which no submitted record has told one."""

    @abstractmethod
    def check(self, connection: Connection) -> None:
        """Have what waits for COMMIT done now, as far as the database can; the transaction is to be rolled back."""

    @abstractmethod
    def finish(
        self,
        connection: Connection,
        isolation: str | None,
        rows: Sequence[Row],
        action_id: UUID,
        also: Sequence[Statement] = (),
    ) -> int:
        """Run `also`, append `rows`, commit and release the action; the last row's position.

        With `isolation` the transaction was not begun, and is begun here. Raises CommitConflict if the action has an
        outcome already, Misuse if the transaction that was begun is not the one that would be committed.
        """

    @abstractmethod
    def took_back(self, dbapi: Any, error: BaseException) -> bool:
        """Whether it was the database that ended the transaction, by rolling back, when it raised `error`."""

    @abstractmethod
    def is_still(self, connection: Connection, action_id: UUID) -> bool:
        """Whether the transaction that is open, and about to be rolled back, is the one that the action began."""

    @abstractmethod
    def rollback(self, connection: Connection) -> None:
        """Roll back what is open on the connection, if anything is, and leave its driver in autocommit mode."""

    @abstractmethod
    def append_alone(self, connection: Connection, row: Row, also: Sequence[Statement] = ()) -> int | None:
        """Append an outcome and run `also` in a transaction of their own, then release the action.

        None if the action has an outcome already.
        """

    @abstractmethod
    def submit_chunk(
        self, connection: Connection, rows: Sequence[Row], lock: UUID, *, durable: bool
    ) -> Collection[UUID]:
        """Append submitted records together and take the lock that their ids share; which were appended.

        Those whose idempotency key was used before are not.
        """

    @abstractmethod
    def parts(self, connection: Connection, isolation: str) -> Parts:
        """A transaction in which several actions have their parts."""

    @abstractmethod
    def standing(self, connection: Connection, ids: Sequence[UUID]) -> HeldRecords:
        """Which of these actions' records the journal holds."""

    @abstractmethod
    def append_missing(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Append outcomes together, but of actions that have one already."""

    @abstractmethod
    def run_alone(self, connection: Connection, statement: Statement) -> None:
        """Run one statement in a transaction of its own, durably."""

    @abstractmethod
    def written_id(self, action_id: UUID) -> str:
        """An action's id as the driver takes it."""

    @abstractmethod
    def claim(self, connection: Connection, action_id: UUID) -> bool:
        """Take the lock of an action, which fails while it runs anywhere."""

    @abstractmethod
    def release(self, connection: Connection, action_id: UUID) -> None:
        """Give the lock of an action back."""

    @abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Whether the database asks for the transaction to be run again."""

    def is_denial(self, error: BaseException) -> bool:
        """Whether an error says no more than that the database was not let do something."""
        return False

    def interruption(self, connection: Connection, error: BaseException) -> BaseException | None:
        """The interruption that a driver has made an error of its own of, if it has."""
        return None

    def chain_is_transient(self, error: BaseException) -> bool:
        """Whether `error`, or one that it was raised from, is transient."""
        return any(self.is_transient(driver_error(each)) for each in chain_of(error))


def pause(attempt: int) -> None:
    """Wait a little before a statement is tried again."""
    time.sleep(scattered(attempt, 0.002, 0.13))
