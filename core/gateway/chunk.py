"""A chunk: actions whose submitted records are committed together, then run one after the other, many to a transaction.

Made and run by `gateway.many`, for `execute_many`. docs/decisions/0021-chunks.md has the argument why all guarantees
hold as for actions alone.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.errors import JournalUnavailable, Misuse, OutcomeUnknown
from actionbus.core.gateway.leftovers import give_up, leave_nothing_open
from actionbus.core.gateway.part import EndedInside, PartCall, PartLost
from actionbus.core.gateway.publishing import publish_queued
from actionbus.core.gateway.services import Services
from actionbus.core.storage.backend import pause
from actionbus.core.storage.drivers import is_usable
from actionbus.core.storage.missing import NO_JOURNAL, is_missing
from actionbus.core.storage.parts import HeldRecords, Parts
from actionbus.core.storage.pooling import UNCLEAN
from actionbus.core.storage.statements import ENDED_INSIDE
from actionbus.core.values.backoff import growing
from actionbus.core.values.caller import Caller
from actionbus.core.values.determinism import chunk_ids
from actionbus.core.values.record import Outcome

log = logging.getLogger("actionbus")
MOST: Final = 500
"""Actions in a chunk."""
LONGEST_S: Final = 1.0
"""How long a transaction takes on further actions: so long do others wait for the rows that it has changed."""
LARGEST: Final = 8_000_000
"""Characters of JSON in the submitted records of a chunk."""
_AWAY: Final = (
    "the database was lost while a chunk of actions ran and has not come back, so it is not known which took effect; "
    "ask the journal, or run them again with the same idempotency keys"
)
_UNWRITTEN: Final = (
    "actionbus: some actions of the chunk have no outcome, which could not be written ({}); `actionbus journal "
    "recover` settles them"
)


class Chunk:
    """Actions of one caller and of one isolation, in their order."""

    def __init__(self, services: Services, caller: Caller, isolation: str) -> None:
        self.isolation = isolation
        self._services = services
        self._backend = services.backend
        self._caller = caller
        self._ids = chunk_ids()
        self._calls: list[PartCall] = []
        self._size = 0
        self._began = time.monotonic()
        self._process = os.getpid()
        self._held = ExitStack()
        self._taken: Connection | None = None
        self._at_once: list[UUID] = []
        """The actions that are to be run once the chunk has no connection any more."""
        self._ran = 0
        """How many actions' handlers have begun in the present transaction."""

    def add(self, name: object, arguments: object, key: str | None) -> None:
        """Take an action in, whatever was passed; nothing is written yet."""
        call = PartCall.one(self._services, self._caller, name, arguments, key, next(self._ids))
        self._calls.append(call)
        self._size += call.size

    def is_full(self) -> bool:
        """Whether it is to be run before another action is taken in."""
        return len(self._calls) >= MOST or self._size >= LARGEST or self._is_late(self._began)

    def reaching_out(self) -> set[str]:
        """The actions that have turned out to be none of a chunk."""
        return {call.told().action for call in self._calls if call.is_alone}

    @staticmethod
    def _is_late(began: float) -> bool:
        return time.monotonic() - began >= LONGEST_S

    def run(self, then: Callable[[Sequence[UUID]], None]) -> Iterator[Outcome]:
        """Run them all; their outcomes in their order, once all are committed, and `then` has run what comes at once.

        Raises JournalUnavailable, OutcomeUnknown; ActionInProgress in the place of an action whose key is in use.
        """
        try:
            self._take_connection()
            self._submit()
            self._run_all()
            answers = deque(self._answers())
        except BaseException as error:
            if not isinstance(error, Exception) and os.getpid() == self._process:
                self._interrupt(error)
            raise
        finally:
            self._held.close()
        then([*self._at_once, *(each for call in self._calls for each in call.at_once)])
        while answers:
            answer = answers.popleft()
            if isinstance(answer, Exception):
                raise answer
            yield answer

    @property
    def _connection(self) -> Connection:
        assert self._taken is not None
        return self._taken

    def _take_connection(self) -> None:
        """A connection of the pool, or another one in place of what it was."""
        self._held.close()
        self._taken = None
        self._taken = self._held.enter_context(self._calls[0])

    @property
    def _lock(self) -> UUID:
        """Of which action the lock is asked for: their ids share what it is made of."""
        return self._calls[0].action_id

    def _submit(self) -> None:
        """Commit the submitted records of all, before anything of any is validated."""
        try:
            try:
                self._append_submitted(frozenset())
            except Exception as error:
                if not self._backend.is_lost(error, self._connection):
                    raise
                self._renew()  # a pooled connection had gone stale
                self._append_submitted(self._standing().submitted)
        except JournalUnavailable:
            raise
        except Exception as error:
            why = NO_JOURNAL if is_missing(error) else "the submitted records could not be written"
            raise JournalUnavailable(f"{why}; nothing of the chunk was run") from error
        self._services.lookout.look_once(self._connection)

    def _standing(self) -> HeldRecords:
        return self._backend.standing(self._connection, [call.action_id for call in self._calls])

    def _append_submitted(self, there: Collection[UUID]) -> None:
        """Append all but those that are `there`: a commit whose answer was lost may have happened."""
        new = [call for call in self._calls if call.action_id not in there and not call.is_repeat]
        if not new:
            self._backend.claim(self._connection, self._lock)
            return
        rows = [call.submitted(self._connection) for call in new]
        durable = any(call.must_be_durable for call in new)
        appended = {*there, *self._backend.submit_chunk(self._connection, rows, self._lock, durable=durable)}
        for call in new:
            call.is_repeat = call.action_id not in appended
            if not call.is_repeat:
                call.note_submitted()

    def _renew(self) -> None:
        """Another connection, from a new pool, in place of one that is lost."""
        give_up(self._backend, self._connection)
        self._backend.renew_pool()
        self._take_connection()

    def _run_all(self) -> None:
        """Run what was submitted: all in one transaction if that goes well, else in halves, at last one by one."""
        waiting = deque([[call for call in self._calls if not call.is_repeat]])
        while waiting:
            if not (calls := waiting.popleft()):
                continue
            if calls[0].is_alone:
                calls[0].run_alone(self._connection)
                waiting.appendleft(calls[1:])
                if any(waiting):
                    self._hold_on()
                continue
            try:
                done = self._run_some(calls, is_last=not any(waiting))
            except EndedInside as error:
                rest = calls[self._settle_ended(calls, error) :]
            except PartLost as error:
                rest = self._begin_again(calls, waiting, error)
            else:
                rest = calls[done:]
            waiting.appendleft(rest)
            if any(waiting):
                self._hold_on()

    def _run_some(self, calls: Sequence[PartCall], *, is_last: bool) -> int:
        """Run calls in one transaction until it has lasted long enough, and commit; how many. Raises PartLost."""
        connection = self._connection
        self._ran = 0
        began = time.monotonic()
        done: list[PartCall] = []
        parts = self._parts(connection)
        for call in calls:
            call.begin_part(connection, parts, done[-1] if done else None)
            self._ran += 1
            if not call.run_part():
                break
            done.append(call)
            if parts.must_end or connection.in_transaction() or self._is_late(began):
                break
        if not done:
            leave_nothing_open(self._backend, connection)
            return 0
        if parts.is_ending:
            done[-1].end_part()
        is_last = is_last and len(done) == len(calls)
        try:
            positions = parts.commit(self._lock if is_last else None)
        except Exception as error:
            raise PartLost from error
        for call, position in zip(done, positions, strict=True):
            call.note_outcome(position)
        for call in done:
            self._at_once += publish_queued(self._services, call.transaction.queued, connection)
        return len(done)

    def _parts(self, connection: Connection) -> Parts:
        try:
            return self._backend.parts(connection, self.isolation)
        except Exception as error:
            raise PartLost from error

    def _settle_ended(self, calls: Sequence[PartCall], error: EndedInside) -> int:
        """Give those that ran their outcomes: what they wrote may be committed, so that none may run again."""
        leave_nothing_open(self._backend, self._connection)
        for call in calls[: self._ran]:
            call.fail(self._connection, Misuse(ENDED_INSIDE))
            if not is_usable(self._connection):
                self._take_connection()
        return self._ran

    def _begin_again(self, calls: list[PartCall], waiting: deque[list[PartCall]], lost: PartLost) -> list[PartCall]:
        """Roll back what cannot be committed; what of it is to be run next. The other half waits behind that."""
        leave_nothing_open(self._backend, self._connection)
        error = lost.__cause__ or lost
        if not is_usable(self._connection) or self._backend.is_lost(error, self._connection):
            calls = self._come_back(calls)
        if len(calls) > 1:
            log.debug("%d actions are run again in halves: %s", len(calls), type(error).__name__, exc_info=error)
            middle = len(calls) // 2
            waiting.appendleft(calls[middle:])
            pause(1)
            return calls[:middle]
        for call in calls:
            call.run_alone(self._connection)
        return []

    def _come_back(self, calls: list[PartCall]) -> list[PartCall]:
        """After a lost connection: which of them have no outcome, once the journal can be asked.

        Their submitted records are appended again if a crash of the server has taken them back. Should the old backend
        still be about to commit, the constraint on one outcome each makes whoever runs them again wait, and lose.
        """
        give_up_at = time.monotonic() + self._services.reconnect_for
        pauses = growing(0.05, 1.0)
        while True:
            try:
                self._renew()
                standing = self._standing()
                self._append_submitted(standing.submitted)
                return [call for call in calls if call.action_id not in standing.settled]
            except Exception as error:
                pause_s = next(pauses)
                if time.monotonic() + pause_s > give_up_at:
                    raise OutcomeUnknown(_AWAY) from error
                time.sleep(pause_s)

    def _hold_on(self) -> None:
        """A connection for what is left, and the lock, which was given back with what is done."""
        if not is_usable(self._connection) or UNCLEAN in self._connection.info or self._connection.in_transaction():
            self._take_connection()
        self._backend.claim(self._connection, self._lock)

    def _answers(self) -> Iterator[Outcome | Exception]:
        for call in self._calls:
            try:
                yield call.answer(self._connection)
            except Exception as error:
                yield error

    def _interrupt(self, error: BaseException) -> None:
        """Give each of them that was submitted and not done the outcome `interrupted`; what was done stays done."""
        try:
            if self._taken is None:
                return
            leave_nothing_open(self._backend, self._connection)
            if not is_usable(self._connection):
                self._take_connection()
            standing = self._standing()
            left = [call for call in self._calls if call.action_id in standing.submitted - standing.settled]
            if left:
                self._backend.append_missing(self._connection, [call.interrupted() for call in left])
            self._backend.release(self._connection, self._lock)
        except Exception as unwritten:
            with suppress(Exception):
                error.add_note(_UNWRITTEN.format(type(unwritten).__name__))
