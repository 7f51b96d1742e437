"""One top-level call on its way through the gateway. Made by `ActionRunner`, whose `_execute` reads as its steps:

1. `Call.of`: a caller's name and arguments become an intent, an id, a seed; secrets are left out.
2. `submit`: the submitted record is appended and committed, whatever is in it.
3. The name leads to a handler, or to UnknownAction.
4. to 6. `run` has an `Execution` run: arguments validated, dependencies built, permission asked, `validate()`,
   `execute()`, in one transaction, begun when its session is first used (or at once: see `_run_once`).
7. `ActionTransaction.finish`: the outcome is that transaction's last statement, and commits with it.

What is rare stands after its step: `settle` is for whatever was raised on the way, `repeat` for an idempotency key that
was used before. `queueing.queued` has the two calls that end in another way, `gateway.part` those of a chunk.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NoReturn, Self, TypeVar
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from actionbus.core.declare.middleware import ActionCall
from actionbus.core.declare.registry import Action
from actionbus.core.errors import (
    ActionInProgress,
    IdempotencyConflict,
    JournalUnavailable,
    Misuse,
    chain_of,
)
from actionbus.core.gateway.execution import Attempt, Execution
from actionbus.core.gateway.failures import as_ours, note_id, unsettled
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.intent import Intent, intent_of
from actionbus.core.gateway.leftovers import give_up, leave_nothing_open, rolled_back
from actionbus.core.gateway.log_lines import log_outcome, log_submitted
from actionbus.core.gateway.lost_connection import append_after_loss
from actionbus.core.gateway.nested import NestedRunner
from actionbus.core.gateway.outcomes import outcome_of, row_of_failure, shortened_outcome
from actionbus.core.gateway.outside_calls import OutsideCall
from actionbus.core.gateway.publishing import publish_queued
from actionbus.core.gateway.sealing import Sealer, comparable
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.ticket import given
from actionbus.core.gateway.transaction import ActionTransaction
from actionbus.core.internal_errors import CommitConflict
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.drivers import is_usable, usable
from actionbus.core.storage.missing import NO_JOURNAL, is_missing
from actionbus.core.storage.rows import RecordPlace, Row, Statement
from actionbus.core.storage.statements import ENDED_INSIDE
from actionbus.core.values import payload
from actionbus.core.values.backoff import scattered
from actionbus.core.values.caller import Caller
from actionbus.core.values.determinism import now
from actionbus.core.values.record import Outcome, Record

log = logging.getLogger("actionbus")
E = TypeVar("E", bound=BaseException)
_KEY_UNKNOWN: Final = "the database could not tell what became of the first call with this key; nothing was run"
IN_CHILD: Final = (
    "this process was forked inside a handler, whose action is its parent's to end: let a child end by itself "
    "(os._exit), or use subprocess"
)


class Call:
    """One top-level call on its way through the gateway."""

    mode = "execute"

    def __init__(
        self, services: Services, action: Action | None, intent: Intent, identity: Identity, scrubber: Scrubber
    ) -> None:
        self._services = services
        self._backend = services.backend
        self._scrubber = scrubber
        self._action = action
        self._version = action.handler.version if action else None
        self._intent = intent
        self._identity = identity
        self._is_submitted = False
        self._seen: str | None = None
        self._execution: Execution | None = None
        self._started_at: datetime | None = None
        self._process = os.getpid()
        self._taken = services.backend.connection_for_action()
        self.at_once: Sequence[UUID] = ()  # the actions that are to be run now that it is committed
        self._sealer = Sealer()
        if action is not None and action.personal:
            self._sealer.register(action, identity.action_id, intent.values)

    @classmethod
    def of(
        cls,
        services: Services,
        caller: Caller,
        name: Any,
        arguments: Any,
        key: str | None,
        *,
        cause: UUID | None = None,
        action_id: UUID | None = None,
    ) -> Self:
        """A new call, whatever was passed; its id is a new one, unless it is given."""
        scrubber = Scrubber()
        action = services.registry.find(name)
        intent = intent_of(name, arguments, key, action, services.application.limits, scrubber)
        identity = Identity.new(caller, services.application.release, action_id=action_id, cause=cause)
        return cls(services, action, intent, identity, scrubber)

    def told(self) -> ActionCall:
        """The call as middleware sees it."""
        return self._identity.call(self._intent.name, self.mode)

    def __enter__(self) -> Connection:
        """The connection that the whole call uses. Raises JournalUnavailable."""
        try:
            return self._taken.__enter__()
        except Exception as error:
            # SQLAlchemy may raise an error of its own over an interruption of a process's first connection.
            for each in chain_of(error):
                if not isinstance(each, Exception):
                    raise each from None
            raise self._told(JournalUnavailable("the database cannot be reached; nothing was run")) from error

    def __exit__(self, *_: object) -> None:
        self._taken.__exit__()

    def submit(self, connection: Connection) -> bool:
        """Append the submitted record; False if its idempotency key was used before."""
        row = self._submitted(self._version, self._intent.idempotency_key)
        try:
            appended = self._append(connection, row, self._must_be_durable())
        except Exception as error:
            appended = self._appended_after(error, connection, row)
        if appended is None:
            if row.idempotency_key is None:
                raise self._told(JournalUnavailable("the journal holds this action already; nothing was run"))
            return False
        self._is_submitted = True
        self._seen = appended.seen
        log_submitted(self._intent.name, self._identity)
        return True

    def _must_be_durable(self) -> bool:
        """A record that an outside call may follow must not be lost, even to a crash of the database server."""
        return self._action is not None and self._action.plan.may_reach_outside

    def _append(self, connection: Connection, row: Row, durable: bool) -> RecordPlace | None:
        if self._sealer:
            self._load_keys(connection)
            row = self._sealer.sealed(row)
        return self._backend.append_submitted(connection, row, durable=durable)

    def _appended_after(self, error: Exception, connection: Connection, row: Row) -> RecordPlace | None:
        """What comes of a submitted record that could not be appended at once. Raises JournalUnavailable."""
        try:
            if not self._backend.is_lost(error, connection):
                raise error
            # A pooled connection had gone stale. If the record did get through, its id keeps it from being doubled.
            self._backend.renew_pool()
            self._backend.renew(connection)
            appended = self._append(connection, row, self._must_be_durable())
            there = self._services.journal.get(row.action_id, connection) if appended is None else None
            if there is None:
                return appended
            self._backend.claim(connection, row.action_id)
            return RecordPlace(there.position, None)
        except JournalUnavailable as unavailable:
            raise self._told(unavailable) from unavailable.__cause__
        except Exception as failure:
            self._scrubber.exception(failure)
            why = NO_JOURNAL if is_missing(failure) else "the submitted record could not be written"
            raise self._told(JournalUnavailable(f"{why}; nothing was run")) from failure

    def _load_keys(self, connection: Connection) -> None:
        """The keys for what is personal, before anything is written with them."""
        if self._sealer:
            self._sealer.load(self._backend, connection, self._identity.action_id, self._intent.values)
            self._sealer.remember(self._identity.action_id, self._intent.values)

    def run(self, connection: Connection, action: Action) -> Outcome:
        """Run the handler and commit with the outcome; again after a serialization failure, until it is for good."""
        self._services.lookout.look_once(connection)
        self._started_at = now()
        attempt = self._attempt(connection, action)
        for number in range(1, self._services.attempts + 1):
            try:
                row, position = self._run_once(attempt, action)
            except BaseException as error:
                self._take_back(attempt.transaction, connection, error, number)
                log.debug("%s is tried again, attempt %d failed: %s", action.name, number, type(error).__name__)
                time.sleep(scattered(number, 0.01, 1.0))
                attempt = self._attempt(connection, action, attempt.tape)
                self._seen = None
            else:
                return self._succeeded(attempt.transaction, connection, row, position)
        raise AssertionError("the last attempt either returns or raises")

    def _attempt(self, connection: Connection, action: Action, earlier: Sequence[OutsideCall] = ()) -> Attempt:
        services, identity = self._services, self._identity
        transaction = ActionTransaction(
            self._backend, connection, action.isolation, services.session_factory, identity.action_id
        )
        assert self._started_at is not None
        return Attempt(
            services,
            transaction,
            self._scrubber,
            self._started_at,
            identity.seed,
            NestedRunner,
            earlier=deque(earlier),
            mode=self.mode,
            sealer=self._sealer,
        )

    def _run_once(self, attempt: Attempt, action: Action) -> tuple[Row, int]:
        transaction, sealer = attempt.transaction, self._sealer
        if self._seen is None:  # on SQLite, for a worker, after a retry or a renewed connection: begins at once
            self._seen = transaction.seen()
        attempt.seen = self._seen
        execution = self._execution = Execution(attempt, action, self._identity)
        row = execution.run(self._intent)
        if os.getpid() != self._process:
            raise Misuse(IN_CHILD)
        if sealer:
            transaction.nested[:] = map(sealer.sealed, transaction.nested)
        return row, transaction.finish([sealer.sealed(row)], self._with_keys())

    def _take_back(
        self, transaction: ActionTransaction, connection: Connection, error: BaseException, number: int
    ) -> None:
        """Roll back what failed. Raises what is to be told of it, unless it is to be tried again."""
        again = self._backend.chain_is_transient(error) and number < self._services.attempts
        ended_inside = isinstance(error, Exception) and transaction.was_ended_inside(error)
        refused = transaction.refusal(error)
        is_back = rolled_back(transaction, connection)
        if refused:
            raise refused from error
        if ended_inside:
            raise Misuse(f"{ENDED_INSIDE}; then it raised {type(error).__name__}") from error
        if not is_back or not again:
            raise error

    def _succeeded(self, transaction: ActionTransaction, connection: Connection, row: Row, position: int) -> Outcome:
        self._tell_outcome(row, position)
        self.at_once = publish_queued(self._services, transaction.queued, connection)
        assert self._execution is not None
        return outcome_of(row, position, self._execution.result)

    def _also(self) -> Sequence[Statement]:
        """What is to be run in the transaction that writes the outcome."""
        return ()

    def _with_keys(self) -> Sequence[Statement]:
        return (*self._also(), *self._sealer.unsaved()) if self._sealer else self._also()

    def settle(self, connection: Connection, error: BaseException) -> Outcome:
        """Write what came of a call that did not succeed, and raise it; or give the outcome it turns out to have.

        In a child that was forked meanwhile nothing is written: the action is its parent's.
        """
        if os.getpid() != self._process:
            if isinstance(error, Misuse) or not isinstance(error, Exception):
                raise error
            raise Misuse(IN_CHILD) from error
        error = self._backend.interruption(connection, error) or error
        leave_nothing_open(self._backend, connection)
        if not self._was_submitted(connection, error):
            if isinstance(error, (DBAPIError, self._backend.engine.dialect.loaded_dbapi.Error)):
                self._scrubber.exception(error)
                raise self._told(JournalUnavailable(_KEY_UNKNOWN)) from error
            raise error
        error = self._clean(as_ours(error))
        if isinstance(error, CommitConflict):
            self._backend.release(connection, self._identity.action_id)
            return self._answer(connection, error)
        row = self._failure(error)
        try:
            position = self._append_outcome(connection, self._sealer.sealed(row), error)
        except Exception as unwritten:
            if struck := self._backend.interruption(connection, unwritten):
                raise struck from None
            was_lost = self._backend.is_lost(error, connection)
            give_up(self._backend, connection)  # the action's lock goes with it
            raise self._told(unsettled(error, unwritten, was_lost)) from error
        if position is None and isinstance(error, Exception):
            return self._answer(connection, error)
        # Ctrl-C may strike just after COMMIT: the outcome is there, and the interruption still reaches the caller.
        if position is not None:
            self._tell_outcome(row, position)
        raise self._told(error)

    def _was_submitted(self, connection: Connection, error: BaseException) -> bool:
        """Whether there is a submitted record to settle. Ctrl-C may strike before we have noted that there is."""
        if self._is_submitted or isinstance(error, Exception):
            return self._is_submitted
        return self._services.journal.get(self._identity.action_id, usable(connection)) is not None

    def _clean(self, error: BaseException) -> BaseException:
        try:
            return self._scrubber.exception(error)
        except Exception as why:
            name = type(error).__name__
            return Misuse(f"a {name} was raised, and secrets cannot be taken out of it ({type(why).__name__})")

    def _failure(self, error: BaseException) -> Row:
        return row_of_failure(
            self._execution,
            self._identity,
            self._intent.name,
            error,
            self._scrubber,
            self._started_at or now(),
            self._seen,
        )

    def _append_outcome(self, connection: Connection, row: Row, error: BaseException) -> int | None:
        """Append the outcome alone. After a lost connection this waits for its old backend, which settles the doubt."""
        if is_usable(connection) and not self._backend.is_lost(error, connection):
            try:
                return self._backend.append_alone(connection, row, self._with_keys())
            except Exception as failure:
                if not self._backend.is_lost(failure, connection):
                    if self._backend.chain_is_transient(failure):
                        raise
                    shortened = shortened_outcome(self._identity, row, error, failure)
                    return self._backend.append_alone(connection, shortened, self._with_keys())
        give_up(self._backend, connection)
        submitted = self._sealer.sealed(self._submitted(self._version, self._intent.idempotency_key))
        return append_after_loss(self._services, submitted, row, self._with_keys())

    def _answer(self, connection: Connection, error: BaseException) -> Outcome:
        """The outcome that somebody else wrote for this action: it is the truth."""
        record = self._services.journal.outcome(self._identity.action_id, usable(connection))
        if record is None:
            raise self._told(JournalUnavailable("the action has an outcome that cannot be read")) from error
        return given(record)

    def repeat(self, connection: Connection) -> Outcome:
        """Answer a call whose idempotency key was used before."""
        first = self._first(connection)
        outcome = self._services.journal.outcome(first.action_id, connection)
        self._identity = self._identity._replace(action_id=first.action_id)
        if outcome is None:
            raise self._told(
                ActionInProgress(
                    f"the action {first.action_id} with this idempotency key has no outcome yet; ask again later "
                    "(if its process died, `actionbus journal recover` settles it)"
                )
            )
        return given(outcome, repeated=True)

    def _first(self, connection: Connection) -> Record:
        """The record that used the idempotency key before, for the same arguments."""
        first = self._services.journal.by_key(
            self._intent.name, self._identity.caller.actor, self._intent.idempotency_key, connection
        )
        if first is None:
            raise self._told(JournalUnavailable("the idempotency key was taken and is gone again; try once more"))
        if not payload.same(comparable(payload.loads(self._intent.text), first.arguments), first.arguments):
            self._conflict(connection, first)
        return first

    def _conflict(self, connection: Connection, first: Record) -> NoReturn:
        error = IdempotencyConflict(
            f"the idempotency key was used for action {first.action_id} with other arguments; use a new key"
        )
        self._append(connection, self._submitted(None, None), durable=False)
        self._is_submitted = True
        raise error

    def _submitted(self, version: int | None, key: str | None) -> Row:
        return self._identity.submitted(self._intent.name, version, key, self._intent.text, self._scrubber)

    def _told(self, error: E) -> E:
        """The error with the action's id: as an attribute on ours, as a note on others."""
        note_id(error, self._intent.name, self._identity.action_id)
        return error

    def _tell_outcome(self, row: Row, position: int) -> None:
        if self._services.announcer:
            self._services.announcer.announce()
        log_outcome(self._intent.name, self._identity, row, position)
