"""One action of a chunk: its call, and the part of the chunk's transaction in which its handler runs.

Made by `gateway.chunk`. What differs from an action alone is told here; the steps are those of `gateway.execution`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Self, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.declare.dependencies import Provider
from actionbus.core.errors import (
    ActionInProgress,
    ActionInterrupted,
    JournalUnavailable,
    Misuse,
    OutcomeArchived,
    OutcomeUnknown,
)
from actionbus.core.gateway.call import IN_CHILD, Call
from actionbus.core.gateway.execution import Attempt, Execution
from actionbus.core.gateway.failures import as_ours
from actionbus.core.gateway.log_lines import log_submitted
from actionbus.core.gateway.nested import NestedRunner
from actionbus.core.gateway.outcomes import outcome_of
from actionbus.core.gateway.outside_calls import CallLog
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.transaction import ActionTransaction, SessionFactory
from actionbus.core.gateway.world import World
from actionbus.core.storage.backend import Backend, TransactionState
from actionbus.core.storage.drivers import driver_connection, is_usable
from actionbus.core.storage.parts import Parts
from actionbus.core.storage.rows import Row
from actionbus.core.storage.statements import ENDED_INSIDE
from actionbus.core.values import payload
from actionbus.core.values.caller import Caller
from actionbus.core.values.determinism import now
from actionbus.core.values.record import Outcome
from actionbus.core.values.tagged import class_name

log = logging.getLogger("actionbus")
T = TypeVar("T")
_INTERRUPTED = payload.dumps(
    {
        "type": class_name(ActionInterrupted),
        "message": "the chunk of actions that it belongs to was interrupted: nothing of it took effect",
    }
)

_NO_OUTCOME = (
    "the action {} with this idempotency key has no outcome yet; ask again later (if its process died, `actionbus "
    "journal recover` settles it). What came before it is done"
)


class PartLost(Exception):
    """The chunk's transaction cannot go on: what was done in it is to be rolled back, and run again in smaller ones."""


class EndedInside(Exception):
    """A handler ended the chunk's transaction: what others did in it may be committed without their outcomes."""


class ReachesOut(Exception):
    """An action inside this one has outside dependencies: nothing is made of them in a chunk."""


class InChunk(World):
    """Nothing outside is reached from a chunk; that an action wanted to is noted, whatever its handler makes of it."""

    def __init__(self) -> None:
        self.was_wanted = False

    def reach(self, calls: CallLog, provider: Provider, make: Callable[[], Any]) -> Any:
        """Refuse a call to the outside from a chunk. Raises ReachesOut."""
        self.was_wanted = True
        raise ReachesOut(provider.name)

    def replaced(self, calls: CallLog, provider: Provider, given: Any) -> Any:
        """Refuse a dependency of the outside in a chunk. Raises ReachesOut."""
        self.was_wanted = True
        raise ReachesOut(provider.name)


class PartTransaction(ActionTransaction):
    """An action's savepoint in the transaction of its chunk. Sessions of it begin and end nothing but that."""

    is_part = True

    def __init__(
        self, backend: Backend, connection: Connection, parts: Parts, factory: SessionFactory, action_id: UUID
    ) -> None:
        super().__init__(backend, connection, "", factory, action_id)
        self._parts = parts
        self.seen_first: str | None = None
        """The snapshot with which it began; None if it needed no database."""

    def begin(self) -> None:
        """Set the savepoint, unless it is set."""
        if not self._has_begun:
            try:
                seen = self._parts.enter(self._action_id)
            except self._backend.driver_errors as error:
                raise self._wrapped("SAVEPOINT", error) from error
            self.note_begun(seen)

    def note_begun(self, seen: str) -> None:
        """Its savepoint is set, and this is the snapshot that it sees."""
        self.seen_first = seen
        self._has_begun = True
        self._backend.watch(self._connection, self)

    def seen(self) -> str | None:
        """The snapshot that it sees."""
        self.begin()
        return self.seen_first

    def keep(self) -> None:
        """End the part with what was written, now or by `end`. Raises DBAPIError for what was deferred, and Misuse."""
        self._is_ending = True
        self._require_open()
        self.close()
        self._let_go()
        if self._has_begun:
            self._ending(lambda: self._parts.leave(self._action_id))

    def end(self, follower: UUID | None) -> str | None:
        """Have the end of the part that was kept sent, and with it the beginning of the one that follows.

        The snapshot which that one sees. Raises as `keep`.
        """
        if follower is None:
            return self._ending(self._parts.settle)
        return self._ending(lambda: self._parts.enter(follower))

    def _ending(self, end: Callable[[], T]) -> T:
        try:
            return end()
        except self._backend.driver_errors as error:
            raise self._wrapped("RELEASE SAVEPOINT", error) from error

    def undo(self) -> None:
        """End the part with nothing done. Raises EndedInside if more than the part was ended, PartLost."""
        self._is_ending = True
        ended = self._has_begun and is_usable(self._connection) and self._is_gone()
        self.close()
        self._let_go()
        if not is_usable(self._connection):
            raise PartLost
        if ended:
            raise EndedInside
        if self._has_begun:
            try:
                self._parts.undo()
            except Misuse as error:
                raise EndedInside from error
            except Exception as error:
                raise PartLost from error

    def _is_gone(self) -> bool:
        return self._backend.state(driver_connection(self._connection)) is TransactionState.NONE


class PartCall(Call):
    """One action of a chunk."""

    mode = "execute_many"
    outcome: Outcome | None = None
    """Once it is committed."""
    is_alone = False
    """Whether it has turned out to be none of a chunk: an action that it runs has outside dependencies."""
    is_repeat = False
    """Whether its idempotency key was used before."""

    @classmethod
    def one(
        cls, services: Services, caller: Caller, name: object, arguments: object, key: str | None, action_id: UUID
    ) -> Self:
        """A new call, whatever was passed; its id is one of the chunk's."""
        call = cls.of(services, caller, name, arguments, key, action_id=action_id)
        call._asked = name
        return call

    _asked: object
    _parts: Parts
    _world: InChunk
    _trial: Attempt
    transaction: PartTransaction
    """That of its part, from `begin_part` on."""
    row: Row
    """Its outcome's, once its handler has run; a failure can still take its place until the part has ended."""

    @property
    def action_id(self) -> UUID:
        """The id of the call's action."""
        return self._identity.action_id

    @property
    def size(self) -> int:
        """How much its submitted record holds, in characters."""
        return len(self._intent.text)

    @property
    def has_key(self) -> bool:
        """Whether it has an idempotency key."""
        return self._intent.idempotency_key is not None

    def submitted(self, connection: Connection) -> Row:
        """Its submitted record, as it is to be written."""
        self._load_keys(connection)
        return self._sealer.sealed(self._submitted(self._version, self._intent.idempotency_key))

    def note_submitted(self) -> None:
        """Its submitted record is committed."""
        self._is_submitted = True
        log_submitted(self._intent.name, self._identity)

    @property
    def must_be_durable(self) -> bool:
        """Whether its submitted record may not wait for the disk."""
        return self._must_be_durable()

    def begin_part(self, connection: Connection, parts: Parts, before: PartCall | None) -> None:
        """Before its handler runs in a savepoint. The part `before` it ends now at the latest, with what comes of that.

        Raises PartLost, EndedInside.
        """
        seen = before.end_part(self.action_id) if before is not None and parts.is_ending else None
        self._started_at = now()
        self._execution, self._seen = None, None
        self._parts = parts
        self.transaction = PartTransaction(
            self._backend, connection, parts, self._services.session_factory, self._identity.action_id
        )
        self._world = InChunk()
        self._trial = Attempt(
            self._services,
            self.transaction,
            self._scrubber,
            self._started_at,
            self._identity.seed,
            NestedRunner,
            mode=self.mode,
            world=self._world,
            sealer=self._sealer,
        )
        if seen is not None:
            self.transaction.note_begun(seen)

    def run_part(self) -> bool:
        """Run the handler; its outcome is left to be committed. Raises PartLost, EndedInside.

        False, with nothing done, if it is to run alone.
        """
        try:
            self.row = self._succeed()
        except Exception as error:
            self.row = self._fail(error)
        if self._world.was_wanted:
            self.is_alone = True
            return False
        if not self._parts.is_ending:
            self._append_part()
        return True

    def end_part(self, follower: UUID | None = None) -> str | None:
        """Have the end of its part sent, and the one of the action that follows begin with that; what that one sees.

        None if it has not begun yet. Should it turn out now that this action fails, that is its outcome.
        """
        seen = None
        try:
            seen = self.transaction.end(follower)
        except Exception as error:
            self.row = self._fail(error)
        self._append_part()
        return seen

    def _append_part(self) -> None:
        transaction = self.transaction
        nested = [self._sealer.sealed(each) for each in transaction.nested]
        also = [*(queued.insert for queued in transaction.queued), *self._with_keys()]
        self._parts.append(self._identity.action_id, [*nested, self._sealer.sealed(self.row)], also)

    def _succeed(self) -> Row:
        action = self._services.registry.get(self._asked)
        execution = self._execution = Execution(self._trial, action, self._identity)
        row = execution.run(self._intent)
        if os.getpid() != self._process:
            raise Misuse(IN_CHILD)
        if self._world.was_wanted:
            raise ReachesOut
        self.transaction.keep()
        return row._replace(seen=self.transaction.seen_first)

    def _fail(self, error: Exception) -> Row:
        transaction = self.transaction
        if os.getpid() != self._process:
            raise error
        refused = transaction.refusal(error)
        if refused is not None and not isinstance(refused, Exception):
            raise refused
        if self._backend.chain_is_transient(error) or self._backend.is_lost(error, transaction.connection):
            raise PartLost from error
        took_back = is_usable(transaction.connection) and self._backend.took_back(
            driver_connection(transaction.connection), error
        )
        try:
            transaction.undo()
        except EndedInside:
            if took_back:
                raise PartLost from error
            raise
        if isinstance(error, Misuse) and ENDED_INSIDE in str(error):
            raise EndedInside from error
        transaction.nested.clear()
        transaction.queued.clear()
        self._trial.seen = transaction.seen_first
        told = self._clean(as_ours(refused or error))
        return self._failure(told)

    def note_outcome(self, position: int) -> None:
        """Take note that its outcome is committed, at this position."""
        self.outcome = outcome_of(self.row, position, self._execution.result if self._execution else None)
        self._tell_outcome(self.row, position)

    def run_alone(self, connection: Connection) -> None:
        """Run it in a transaction of its own, as `execute` does. Raises JournalUnavailable, OutcomeUnknown."""
        try:
            self._execution, self._seen = None, None
            self.outcome = self.run(connection, self._services.registry.get(self._asked))
        except Exception as error:
            self.fail(connection, error)

    def fail(self, connection: Connection, error: Exception) -> None:
        """Give it an outcome of its own for what was raised. Raises JournalUnavailable, OutcomeUnknown."""
        try:
            self.outcome = self.settle(connection, error)
        except (JournalUnavailable, OutcomeArchived, OutcomeUnknown):
            raise
        except Exception:
            log.debug("action %s failed: its outcome tells why", self._identity.action_id)

    def answer(self, connection: Connection) -> Outcome:
        """Its outcome, which another may have written. Raises ActionInProgress, OutcomeArchived, JournalUnavailable."""
        if self.outcome is not None:
            return self.outcome
        action_id = self._identity.action_id
        if self.is_repeat:
            try:
                action_id = self._first(connection).action_id
            except Exception as error:
                self.fail(connection, error)
        record = self._services.journal.outcome(action_id, connection)
        if record is None:
            raise self._told(ActionInProgress(_NO_OUTCOME.format(action_id)))
        return Outcome.of(record, repeated=action_id != self._identity.action_id)

    def interrupted(self) -> Row:
        """The outcome of one that an interruption kept from being done."""
        row = self._identity.outcome(
            self._intent.name, "interrupted", version=self._action.handler.version if self._action else None
        )
        return row._replace(error=_INTERRUPTED)
