"""Nested actions: the `runner` dependency, which runs actions inside the transaction of the handler that has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, Self, TypeVar
from uuid import UUID

from actionbus.core.declare.dependencies import Provider
from actionbus.core.declare.performing import action_that_performs
from actionbus.core.declare.registry import Action
from actionbus.core.errors import ActionBusError, Misuse
from actionbus.core.gateway import enqueuing
from actionbus.core.gateway.enqueuing import run_for, ticket_of, unique_key
from actionbus.core.gateway.execution import Execution, load_arguments
from actionbus.core.gateway.failures import as_ours, note_id
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.intent import Intent, intent_of
from actionbus.core.gateway.outcomes import outcome_of, row_of_failure
from actionbus.core.gateway.postponed import PostponedCall, arguments_of
from actionbus.core.gateway.publishing import message_of, refuse_secrets
from actionbus.core.gateway.ticket import Ticket, due_at, moment
from actionbus.core.gateway.transaction import QueuedAction
from actionbus.core.storage.rows import Row
from actionbus.core.storage.runs import Run
from actionbus.core.storage.together import run_inside
from actionbus.core.values.caller import Caller
from actionbus.core.values.public import public
from actionbus.core.values.record import Outcome

R = TypeVar("R")


@public
class NestedRunner:
    """The `runner` dependency: runs actions inside the transaction of the handler that has it."""

    def __init__(self, outer: Execution) -> None:
        self._outer = outer

    def execute(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Outcome:
        """Run an action in a savepoint. Its records are written with the outer outcome, or not at all.

        Raises what the action raises; a handler that catches it goes on as if the action had not been tried.
        Misuse is raised for an idempotency key.
        """
        if idempotency_key is not None:
            raise Misuse("a nested action takes no idempotency key: it repeats only with the action that caused it")
        return _NestedCall(self._outer, name, arguments).run()

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
        return _NestedCall(self._outer, name, arguments).queue(due_at(eta, countdown))

    def queue_for(self, caller: Caller, name: str, arguments: Mapping[str, Any]) -> Ticket:
        """Queue an action on behalf of another caller; for operators, who queue again what others asked for."""
        return _NestedCall(self._outer, name, arguments, caller).queue(None)

    def postpone(self, provider: Provider, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> PostponedCall:
        """Queue the action that makes a call once this one is committed. Raises Misuse for what cannot wait."""
        return _NestedCall.performing(self._outer, provider, name, args, kwargs).postpone()


class _NestedCall:
    def __init__(
        self,
        outer: Execution,
        name: Any,
        arguments: Any,
        caller: Caller | None = None,
        own: tuple[UUID, str] | None = None,
    ) -> None:
        attempt = outer.attempt
        self._attempt = attempt
        self._outer = outer
        self._action = attempt.registry.find(name)
        self._intent: Intent = intent_of(name, arguments, None, self._action, attempt.limits, attempt.scrubber)
        self._is_again = caller is not None
        action_id, seed = own or attempt.nested_identity()
        above = outer.identity
        caller = caller or above.caller
        correlation_id = caller.correlation_id or above.correlation_id
        self._identity = Identity(action_id, seed, caller, correlation_id, above.action_id, above.release)
        self._name = name
        attempt.sealer.register(self._action, action_id, self._intent.values)
        attempt.sealer.remember(action_id, self._intent.values)

    @classmethod
    def performing(
        cls, outer: Execution, provider: Provider, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Self:
        """The call of the action that makes a postponed call, whose key is that action's id."""
        attempt = outer.attempt
        own = attempt.nested_identity()
        secrecy = (attempt.scrubber, attempt.sealer)
        arguments = arguments_of(name, args, kwargs, str(own[0]), attempt.limits, secrecy)
        return cls(outer, action_that_performs(provider.name), arguments, own=own)

    def run(self) -> Outcome:
        """Submit, run in a savepoint, note the outcome."""
        return self._around("execute", self._run)

    def queue(self, due: float | None) -> Ticket:
        """Submit, validate in a savepoint that is rolled back, and leave the rest to the outer commit."""
        return self._around("execute_async", lambda: self._queue(due))

    def postpone(self) -> PostponedCall:
        """Submit, and leave the rest to the outer commit."""
        return self._around("execute_async", self._postpone)

    def _postpone(self) -> PostponedCall:
        services, identity = self._attempt.services, self._identity
        self._attempt.transaction.send_savepoints()
        self._submit()
        try:
            action = self._attempt.registry.get(self._name)
            load_arguments(action, self._intent)
        except BaseException as caught:
            self._fail(None, caught)
        run = run_for(services, action, identity.action_id, None, None)
        # One after the other, in the order in which the handler asked for them.
        run = run._replace(concurrency_key=f"after {self._attempt.transaction.action_id}")
        self._leave_to_commit(action, run, at_once=services.performs_calls)
        return PostponedCall(self._intent.values["call"], identity.action_id, self._intent.values["key"])

    def _leave_to_commit(self, action: Action, run: Run, *, at_once: bool = False) -> None:
        services, transaction, identity = self._attempt.services, self._attempt.transaction, self._identity
        withdrawn = identity.outcome(action.name, "failed", started_at=self._attempt.started_at)
        wakes = run.published or (not services.broker.carries and run.due_at <= run.queued_at)
        message = message_of(run) if wakes and not at_once else None
        transaction.queued.append(QueuedAction(message, services.runs.inserting(run), withdrawn, at_once))

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
        services, identity = self._attempt.services, self._identity
        self._submit()
        action, arguments = self._check()
        if (taken := self._reserved(action, arguments)) is not None:
            return ticket_of(services, taken, action.name, self._attempt.started_at, readable=False)
        run = run_for(services, action, identity.action_id, arguments, due)
        self._leave_to_commit(action, run)
        return Ticket(identity.action_id, action.name, moment(run.due_at))

    def _reserved(self, action: Action, arguments: str | None) -> UUID | None:
        """The other action that keeps this one from being queued, whose outcome says so; None if there is none."""
        services, transaction = self._attempt.services, self._attempt.transaction
        reserving = enqueuing.reserving(services, action, self._identity.action_id, arguments)
        if reserving is None:
            return None
        connection = transaction.session.connection()
        if run_inside(services.backend, connection, reserving).rowcount > 0:
            return None
        found = run_inside(services.backend, connection, services.runs.reserved_for(unique_key(action, arguments)))
        first = UUID(str(found.scalar_one()))
        transaction.nested.append(self._failure(None, enqueuing.not_unique(action.name, first)))
        return first

    def _check(self) -> tuple[Action, str | None]:
        execution: Execution | None = None
        try:
            action = self._get_action_handler()
            refuse_secrets(action)
            execution = Execution(self._attempt, action, self._identity)
            with self._attempt.transaction.session.begin_nested() as savepoint:
                execution.check(self._intent)
                savepoint.rollback()
        except BaseException as caught:
            self._fail(execution, caught)
        return action, execution.arguments

    def _run_handler(self) -> Outcome:
        transaction = self._attempt.transaction
        execution: Execution | None = None
        try:
            action = self._get_action_handler()
            execution = Execution(self._attempt, action, self._identity)
            transaction.session.connection()  # sends the handler's own savepoints, if any of them was not used yet
            with transaction.session.begin_nested():
                transaction.enter(self._identity.action_id)
                row = execution.run(self._intent)
                transaction.leave(self._identity.action_id, self._outer.identity.action_id)
            transaction.nested.append(row)
            return outcome_of(row, 0, execution.result)
        except BaseException as caught:
            self._fail(execution, caught)

    def _get_action_handler(self) -> Action:
        action = self._attempt.registry.get(self._name)
        if action.for_operators:
            raise Misuse(f"{action.name} is an operator's decision; no other action runs it")
        if action.performs is not None and not self._is_again:
            raise Misuse(f"{action.name} makes calls that handlers postponed; require {action.performs} and call it")
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
            execution, self._identity, self._intent.name, error, self._attempt.scrubber, self._attempt.started_at
        )
