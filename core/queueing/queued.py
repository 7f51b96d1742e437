"""The two halves of a queued action: `QueueingCall` validates and queues it, `run_queued` is how a worker runs it.

Why a run takes effect once, however often its message comes: a worker first takes the action's lock, the one that tells
running actions from dead ones, so no two run it at a time. It then looks for the row in `storage.runs`, removed
in the very transaction that writes the outcome: no row, or one that is not due, nothing to do. Should all that be
evaded, the constraint on one outcome per action still rolls a second run back. A worker that dies loses its transaction
and its lock with its connection, and the row brings the next message.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.declare.registry import Action
from actionbus.core.errors import (
    AttemptsExhausted,
    AttemptUnfinished,
    CommitConflict,
    InvalidArguments,
    JournalUnavailable,
    OutcomeUnknown,
)
from actionbus.core.gateway.call import Call
from actionbus.core.gateway.execution import Execution
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.intent import intent_of
from actionbus.core.gateway.nested import NestedRunner
from actionbus.core.gateway.publishing import message_of, publish, refuse_secrets
from actionbus.core.gateway.sealing import erased_names
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.ticket import Ticket, moment
from actionbus.core.queueing.versions import ForAnotherWorker, adopted
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.rows import Row, Statement
from actionbus.core.storage.runs import LONGEST_PAUSE_S, Run
from actionbus.core.values import payload
from actionbus.core.values.caller import Caller
from actionbus.core.values.determinism import now
from actionbus.core.values.record import Outcome, Record

log = logging.getLogger("actionbus")
FIRST_PAUSE_S: Final = 1.0
"""After an attempt that came to no end; doubled with every further one."""


class QueueingCall(Call):
    """Submits, validates in a transaction that is rolled back, and queues."""

    mode = "execute_async"

    def _must_be_durable(self) -> bool:
        return True

    def queue(self, connection: Connection, action: Action, due: float | None) -> Ticket:
        """Validate and queue. The row comes after validation, so that no worker sees what may yet be refused."""
        queue = self._services.needed_queue()
        refuse_secrets(action)
        self._started_at = now()
        self._check(connection, action)
        run = Run.new(self._identity.action_id, action.name, action.handler.queue, due, queue.redeliver_after)
        self._backend.run_alone(connection, self._services.runs.inserting(run))
        self._backend.release(connection, run.action_id)
        problem = publish(self._services, message_of(run), connection) if run.published else None
        log.info("%s queued, action %s", run.action, run.action_id, extra=self._extra() | {"queue": run.queue})
        return Ticket(run.action_id, run.action, moment(run.due_at), problem=problem, _services=self._services)

    def ticket_of_first(self, connection: Connection) -> Ticket:
        """Answer a call whose idempotency key was used before."""
        first = self._first(connection)
        run = self._services.runs.get(first.action_id, connection)
        due = moment(run.due_at) if run else first.recorded_at
        return Ticket(first.action_id, first.action, due, repeated=True, _services=self._services)

    def _check(self, connection: Connection, action: Action) -> None:
        attempt = self._attempt(connection, action, [])
        attempt.seen = self._seen
        self._execution = Execution(attempt, action, self._identity, NestedRunner())
        try:
            self._execution.check(self._intent)
        finally:
            attempt.transaction.rollback()

    def _also(self) -> Sequence[Statement]:
        return (self._services.runs.deleting(self._identity.action_id),)


class QueuedCall(Call):
    """Runs an action that was submitted before. What must be tried again is left queued, without an outcome."""

    mode = "worker"

    @classmethod
    def again(cls, services: Services, submitted: Record) -> QueuedCall:
        """The call that a submitted record tells of. Raises ForAnotherWorker."""
        action, arguments = adopted(services.registry, submitted)
        text = payload.dumps(submitted.context) if submitted.context is not None else None
        caller = Caller(submitted.actor, submitted.correlation_id, text)
        scrubber = Scrubber()
        intent = intent_of(submitted.action, arguments, None, action, services.application.limits, scrubber)
        if erased := erased_names(arguments):
            told = {name: ["was erased with its subject after the action was queued"] for name in erased}
            intent = replace(intent, problem=InvalidArguments(told))
        assert submitted.seed is not None
        identity = Identity(
            submitted.action_id, submitted.seed, caller, submitted.correlation_id, submitted.cause_id,
            services.application.release,
        )  # fmt: skip
        call = cls(services, action, intent, identity, scrubber)
        call._is_submitted = True
        return call

    def attempt(self, connection: Connection, run: Run, attempts: int) -> Outcome:
        """Run it once more, or give it up. Raises AttemptUnfinished if it is to be tried again."""
        try:
            if run.attempts > attempts:
                last = f"; the last problem: {run.problem}" if run.problem else ""
                raise AttemptsExhausted(f"given up after {attempts} attempts, none of which came to an end{last}")
            self._load_keys(connection)
            return self.run(connection, self._services.registry.get(run.action))
        except BaseException as error:
            return self.settle(connection, error)

    def settle(self, connection: Connection, error: BaseException) -> Outcome:
        """As for any call; but after what another attempt may not meet, nothing is written."""
        if os.getpid() == self._process and self._is_worth_another_try(error, connection):
            self._scrubber.exception(error)
            raise self._told(AttemptUnfinished(f"{type(error).__name__}: {error}")) from error
        try:
            return super().settle(connection, error)
        except (JournalUnavailable, OutcomeUnknown) as unwritten:
            raise self._told(AttemptUnfinished(str(unwritten))) from unwritten

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
        return self._backend.append_alone(connection, row, self._with_keys())

    def _also(self) -> Sequence[Statement]:
        return (self._services.runs.deleting(self._identity.action_id),)


def run_queued(services: Services, action_id: UUID, worker: str) -> Outcome | None:
    """Run an action that is queued and due; None if there is nothing to do, or if it is to be tried again later.

    Raises what the action raises once its outcome is written, as `execute` does.
    """
    queue = services.needed_queue()
    with services.backend.connection() as connection:
        if not services.backend.claim(connection, action_id):
            return None
        try:
            claimed = _claimed(services, connection, action_id, worker, queue.redeliver_after)
            if claimed is None:
                return None
            call, run = claimed
            return services.middleware.around_call(call.told, partial(call.attempt, connection, run, queue.attempts))
        except AttemptUnfinished as error:
            unfinished = error
        finally:
            _release(services, connection, action_id)
    # The connection may be lost, and another is taken only once it is given back.
    _try_later(services, run, unfinished)
    return None


def _claimed(
    services: Services, connection: Connection, action_id: UUID, worker: str, redeliver_after: float
) -> tuple[QueuedCall, Run] | None:
    """The call that a message asks for, if it is to be run here and now, noted as begun by `worker`."""
    submitted = services.journal.get(action_id, connection)
    if submitted is None:
        return None
    if submitted.kind == "outcome":
        services.backend.run_alone(connection, services.runs.deleting(action_id))
        return None
    try:
        call = QueuedCall.again(services, submitted)
    except ForAnotherWorker as why:
        pause = services.runs.leave_to_others(action_id, str(why), connection)
        if pause is not None:
            log.warning(
                "%s is left to another worker for %.0f s, action %s: %s", submitted.action, pause, action_id, why
            )
        return None
    run = services.runs.claim(action_id, worker, redeliver_after, connection)
    return (call, run) if run else None


def _release(services: Services, connection: Connection, action_id: UUID) -> None:
    if connection.invalidated:
        return
    try:
        services.backend.release(connection, action_id)
    except Exception as error:
        log.debug("the lock of action %s goes with its connection: %s", action_id, error)
        connection.invalidate()


def _try_later(services: Services, run: Run, unfinished: AttemptUnfinished) -> None:
    cause = unfinished.__cause__
    ended = cause is not None and not isinstance(cause, Exception)
    pause = 0.0 if ended else min(FIRST_PAUSE_S * 2 ** (run.attempts - 1), LONGEST_PAUSE_S)
    log.warning("%s is tried again in %.0f s, action %s: %s", run.action, pause, run.action_id, unfinished)
    try:
        services.runs.hand_back(run, pause, str(unfinished))
    except Exception as error:
        # The database is away: the row has a time for its next message already.
        log.warning("the run of action %s could not be handed back: %s", run.action_id, error)
    if ended:
        assert cause is not None
        raise cause
