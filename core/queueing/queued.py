"""The two halves of a queued action: `QueueingCall` validates and queues it, `QueuedCall` is an attempt by a worker.

The row in `storage.runs` is removed in the very transaction that writes the outcome; `queueing.claiming` says who makes
an attempt, and when.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.declare.queue import Retry
from actionbus.core.declare.registry import Action
from actionbus.core.errors import (
    ActionCancelled,
    AttemptsExhausted,
    InvalidArguments,
    JournalUnavailable,
    NotUnique,
    OutcomeUnknown,
)
from actionbus.core.gateway import enqueuing
from actionbus.core.gateway.call import Call
from actionbus.core.gateway.enqueuing import run_for
from actionbus.core.gateway.execution import Attempt, Execution
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.intent import intent_of
from actionbus.core.gateway.log_lines import log_queued
from actionbus.core.gateway.outside_calls import OutsideCall
from actionbus.core.gateway.publishing import message_of, publish, refuse_secrets
from actionbus.core.gateway.sealing import erased_names
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.ticket import Ticket, moment
from actionbus.core.internal_errors import AttemptUnfinished, CommitConflict
from actionbus.core.queueing.limits import asks_cancelled, limited
from actionbus.core.queueing.versions import adopted
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.rows import Row, Statement
from actionbus.core.storage.runs import Run
from actionbus.core.storage.together import run_if, run_inside
from actionbus.core.values import payload
from actionbus.core.values.caller import Caller
from actionbus.core.values.determinism import now
from actionbus.core.values.readable import words
from actionbus.core.values.record import Outcome, Record

log = logging.getLogger("actionbus")


class QueueingCall(Call):
    """Submits, validates in a transaction that is rolled back, and queues."""

    mode = "execute_async"

    def _must_be_durable(self) -> bool:
        return True

    def queue(self, connection: Connection, action: Action, due: float | None) -> Ticket:
        """Validate and queue. The row comes after validation, so that no worker sees what may yet be refused."""
        services, action_id = self._services, self._identity.action_id
        refuse_secrets(action)
        self._started_at = now()
        arguments = self._check(connection, action)
        run = run_for(services, action, action_id, arguments, due)
        self._insert(connection, action, run, arguments)
        self._backend.release(connection, action_id)
        wakes = run.published or (not services.broker.carries and run.due_at <= run.queued_at)
        problem = publish(services, message_of(run), connection) if wakes else None
        log_queued(run.action, self._identity, run.queue)
        return Ticket(action_id, run.action, moment(run.due_at), problem=problem, _services=services)

    def _insert(self, connection: Connection, action: Action, run: Run, arguments: str | None) -> None:
        """Write the row that queues. Raises NotUnique."""
        runs = self._services.runs
        reserving = enqueuing.reserving(self._services, action, run.action_id, arguments)
        if reserving is None:
            self._backend.run_alone(connection, runs.inserting(run))
        elif not run_if(self._backend, connection, reserving, runs.inserting(run)):
            wanted = runs.reserved_for(enqueuing.unique_key(action, arguments))
            first = self._backend.read(lambda used: run_inside(self._backend, used, wanted).scalar(), connection)
            raise enqueuing.not_unique(action.name, UUID(str(first)))

    def ticket_of_same(self, connection: Connection, error: NotUnique) -> Ticket:
        """Answer a call that another action keeps from being queued, once that is on record."""
        with suppress(NotUnique):
            self.settle(connection, error)
        assert error.first_id is not None
        return enqueuing.ticket_of(self._services, error.first_id, self._intent.name, now())

    def ticket_of_first(self, connection: Connection) -> Ticket:
        """Answer a call whose idempotency key was used before."""
        first = self._first(connection)
        run = self._services.runs.get(first.action_id, connection)
        due = moment(run.due_at) if run else first.recorded_at
        return Ticket(first.action_id, first.action, due, repeated=True, _services=self._services)

    def _check(self, connection: Connection, action: Action) -> str | None:
        attempt = self._attempt(connection, action)
        attempt.seen = self._seen
        self._execution = Execution(attempt, action, self._identity)
        try:
            self._execution.check(self._intent)
            return self._execution.arguments
        finally:
            attempt.transaction.rollback()

    def _also(self) -> Sequence[Statement]:
        return self._services.runs.deleting(self._identity.action_id)


class QueuedCall(Call):
    """Runs an action that was submitted before. What must be tried again is left queued, without an outcome."""

    mode = "worker"
    _run: Run | None
    _burying: list[Statement]
    """What keeps a bad end in sight, once there is one."""

    @classmethod
    def again(cls, services: Services, submitted: Record, overrides: Mapping[str, Any]) -> QueuedCall:
        """The call that a submitted record tells of. Raises ForAnotherWorker."""
        action, arguments = adopted(services.registry, submitted)
        text = payload.dumps(submitted.context) if submitted.context is not None else None
        caller = Caller(submitted.actor, submitted.correlation_id, text, overrides)
        scrubber = Scrubber()
        intent = intent_of(submitted.action, arguments, None, action, services.application.limits, scrubber)
        if erased := erased_names(arguments):
            told = {name: ["was erased with its subject after the action was queued"] for name in erased}
            intent = intent._replace(problem=InvalidArguments(told))
        assert submitted.seed is not None
        identity = Identity(
            submitted.action_id,
            submitted.seed,
            caller,
            submitted.correlation_id,
            submitted.cause_id,
            services.application.release,
        )
        call = cls(services, action, intent, identity, scrubber)
        call._is_submitted = True
        call._burying = []
        call._run = None
        return call

    def attempt(self, connection: Connection, run: Run) -> Outcome:
        """Run it once more, or give it up. Raises AttemptUnfinished if it is to be tried again."""
        self._run = run
        action = self._services.registry.get(run.action)
        try:
            attempts = self._services.broker.attempts if self._retry is None else self._retry.attempts
            if run.attempts > attempts:
                last = f"; the last problem: {run.problem}" if run.problem else ""
                raise AttemptsExhausted(f"given up after {attempts} attempts, none of which came to an end{last}")
            self._load_keys(connection)
            return self.run(connection, action)
        except BaseException as error:
            return self.settle(connection, error)

    @property
    def _retry(self) -> Retry | None:
        return self._action.handler.retry if self._action is not None else None

    def _attempt(self, connection: Connection, action: Action, earlier: Sequence[OutsideCall] = ()) -> Attempt:
        made = super()._attempt(connection, action, earlier)
        if (timeout := action.handler.timeout) is not None:
            made.limited = partial(limited, action.name, timeout)
        made.asks_cancelled = asks_cancelled(self._services, self._identity.action_id)
        return made

    def settle(self, connection: Connection, error: BaseException) -> Outcome:
        """As for any call; but after what another attempt may not meet, nothing is written."""
        if os.getpid() == self._process:
            pause = self._pause_after(error)
            if pause is not None or self._is_worth_another_try(error, connection):
                self._scrubber.exception(error)
                unfinished = AttemptUnfinished(self._sealer.left_out(f"{type(error).__name__}: {words(error)}"))
                unfinished.pause = pause
                raise self._told(unfinished) from error
        try:
            return super().settle(connection, error)
        except (JournalUnavailable, OutcomeUnknown) as unwritten:
            raise self._told(AttemptUnfinished(str(unwritten))) from unwritten

    def _pause_after(self, error: BaseException) -> float | None:
        """Seconds until the next attempt, where the handler's `retry` wants one; None if it does not."""
        retry, run = self._retry, self._run
        if retry is None or run is None or isinstance(error, (CommitConflict, AttemptsExhausted, ActionCancelled)):
            return None
        if not isinstance(error, retry.kinds) or run.attempts >= retry.attempts:
            return None
        try:
            return retry.pause(run.attempts)
        except Exception as why:
            usual = Retry().pause(run.attempts)
            told = f"asked after attempt {run.attempts} it raised {type(why).__name__}: {words(why)}"
            log.warning(
                "%s: the `backoff` of its retry must give seconds, a number from 0 up; %s; the usual pause is taken, "
                "%.1f s",
                run.action,
                told,
                usual,
            )
            return usual

    def _is_worth_another_try(self, error: BaseException, connection: Connection) -> bool:
        """A lost or contended database, or a process told to end."""
        if isinstance(error, (CommitConflict, AttemptsExhausted)):
            return False
        return (
            not isinstance(error, Exception)
            or connection.invalidated
            or self._backend.is_lost(error, connection)
            or self._backend.chain_is_transient(error)
        )

    def _append_outcome(self, connection: Connection, row: Row, error: BaseException) -> int | None:
        if not isinstance(error, ActionCancelled):
            problem = self._sealer.left_out(f"{type(error).__name__}: {self._scrubber.text(words(error))}")
            uncounted = 1 if isinstance(error, AttemptsExhausted) else 0  # the claim by which it was given up
            self._burying = [self._services.runs.burying(row.action_id, row.status or "failed", problem, uncounted)]
        return self._backend.append_alone(connection, row, self._with_keys())

    def _also(self) -> Sequence[Statement]:
        unique = self._action is not None and self._action.handler.unique is not None
        return [*self._burying, *self._services.runs.deleting(self._identity.action_id, unique=unique)]
