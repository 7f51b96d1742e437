"""Nested actions: the `runner` dependency, which runs actions inside the transaction of the handler that has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from actionbus.core.declare.registry import Action
from actionbus.core.errors import ActionBusError, Misuse
from actionbus.core.gateway.execution import Execution
from actionbus.core.gateway.failures import as_ours, note_id, status_of
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.intent import Intent, intent_of
from actionbus.core.gateway.outcomes import outcome_of, row_of_failure
from actionbus.core.gateway.publishing import message_of, refuse_secrets
from actionbus.core.gateway.ticket import Ticket, due_at, moment
from actionbus.core.gateway.transaction import Queued
from actionbus.core.storage.rows import Row
from actionbus.core.storage.runs import Run
from actionbus.core.values.record import Outcome

R = TypeVar("R")


class NestedRunner:
    """The `runner` dependency: runs actions inside the transaction of the handler that has it."""

    def __init__(self, outer: Execution | None = None) -> None:
        self._outer = outer

    def inside(self, execution: Execution) -> NestedRunner:
        """A runner whose actions are caused by `execution`'s."""
        return NestedRunner(execution)

    def execute(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Outcome:
        """Run an action in a savepoint. Its records are written with the outer outcome, or not at all.

        Raises what the action raises; a handler that catches it goes on as if the action had not been tried.
        """
        outer = self._outer
        if outer is None or idempotency_key is not None:
            raise Misuse("a nested action takes no idempotency key: it repeats only with the action that caused it")
        return _NestedCall(outer, name, arguments).run()

    def execute_async(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        eta: datetime | None = None,
        countdown: float | None = None,
    ) -> Ticket:
        """Queue an action, which leaves for the broker only if this one is committed. Raises what validation raises.

        `eta` is when it is due; `countdown` in how many seconds.
        """
        if self._outer is None:
            raise Misuse("self.runner works inside a handler only")
        return _NestedCall(self._outer, name, arguments).queue(due_at(eta, countdown))


class _NestedCall:
    def __init__(self, outer: Execution, name: Any, arguments: Any) -> None:
        attempt = outer.attempt
        self._attempt = attempt
        self._outer = outer
        self._action = attempt.registry.find(name)
        self._intent: Intent = intent_of(name, arguments, None, self._action, attempt.limits, attempt.scrubber)
        action_id, seed = attempt.nested_identity()
        above = outer.identity
        self._identity = Identity(action_id, seed, above.caller, above.correlation_id, above.action_id, above.release)
        self._name = name
        attempt.sealer.register(self._action, action_id, self._intent.values)
        attempt.sealer.remember(action_id, self._intent.values)

    def run(self) -> Outcome:
        """Submit, run in a savepoint, note the outcome."""
        return self._around("execute", self._run)

    def queue(self, due: float | None) -> Ticket:
        """Submit, validate in a savepoint that is rolled back, and leave the rest to the outer commit."""
        return self._around("execute_async", lambda: self._queue(due))

    def _around(self, mode: str, proceed: Callable[[], R]) -> R:
        return self._attempt.services.middleware.around_call(
            lambda: self._identity.call(self._intent.name, mode), proceed
        )

    def _submit(self) -> None:
        version = self._action.handler.version if self._action else None
        submitted = self._identity.submitted(
            self._intent.name, version, None, self._intent.text, self._attempt.scrubber
        )
        self._attempt.transaction.nested.append(submitted)

    def _run(self) -> Outcome:
        self._submit()
        return self._run_handler()

    def _queue(self, due: float | None) -> Ticket:
        queue = self._attempt.services.needed_queue()
        transaction, identity = self._attempt.transaction, self._identity
        self._submit()
        action = self._check()
        run = Run.new(identity.action_id, action.name, action.handler.queue, due, queue.redeliver_after)
        withdrawn = identity.outcome(action.name, "failed", started_at=self._attempt.started_at)
        insert = self._attempt.services.runs.inserting(run)
        message = message_of(run)
        transaction.queued.append(Queued(message if run.published else None, insert, withdrawn))
        return Ticket(identity.action_id, action.name, moment(run.due_at))

    def _check(self) -> Action:
        execution: Execution | None = None
        try:
            action = self._get_action_handler()
            refuse_secrets(action)
            execution = Execution(self._attempt, action, self._identity, NestedRunner())
            with self._attempt.transaction.session.begin_nested() as savepoint:
                execution.check(self._intent)
                savepoint.rollback()
        except BaseException as caught:
            self._fail(execution, caught)
        return action

    def _run_handler(self) -> Outcome:
        transaction = self._attempt.transaction
        execution: Execution | None = None
        try:
            action = self._get_action_handler()
            execution = Execution(self._attempt, action, self._identity, NestedRunner())
            transaction.session.connection()  # sends the handler's own savepoints, if any of them was not used yet
            with transaction.session.begin_nested():
                transaction.enter(self._identity.action_id)
                result = execution.run(self._intent)
                row = execution.outcome("succeeded", result, None)
                transaction.leave(self._identity.action_id, self._outer.identity.action_id)
            transaction.nested.append(row)
            return outcome_of(row, 0)
        except BaseException as caught:
            self._fail(execution, caught)

    def _get_action_handler(self) -> Action:
        action = self._attempt.registry.get(self._name)
        if action.for_operators:
            raise Misuse(f"{action.name} is an operator's decision; no other action runs it")
        return action

    def _fail(self, execution: Execution | None, caught: BaseException) -> NoReturn:
        """Note the outcome of what was raised, and raise it to the outer handler."""
        error = as_ours(caught)
        self._attempt.transaction.nested.append(self._failure(execution, error))
        if isinstance(error, ActionBusError):
            note_id(error, self._intent.name, self._identity.action_id)
        if error is caught:
            raise
        raise error from None

    def _failure(self, execution: Execution | None, error: BaseException) -> Row:
        return row_of_failure(
            execution, self._identity, self._intent.name, status_of(error), error, self._attempt.scrubber,
            self._attempt.started_at,
        )  # fmt: skip
