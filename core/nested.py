"""Nested actions: the `runner` dependency, which runs actions inside the transaction of the handler that has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.backend import Row
from core.errors import ActionBusError, Misuse
from core.execution import Execution, Identity, as_ours, describe_error, outcome_of, status_of
from core.intent import Intent, intent_of
from core.record import Outcome
from core.touched import RowRecorder


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

    def run(self) -> Outcome:
        """Submit, run in a savepoint, note the outcome."""
        transaction = self._attempt.transaction
        version = self._action.handler.version if self._action else None
        transaction.nested.append(self._identity.submitted(self._intent.name, version, None, self._intent.text))
        above, transaction.recorder = transaction.recorder, RowRecorder(self._attempt.limits)
        try:
            return self._run_handler()
        finally:
            transaction.recorder = above

    def _run_handler(self) -> Outcome:
        transaction = self._attempt.transaction
        execution: Execution | None = None
        try:
            action = self._attempt.registry.get(self._name)
            execution = Execution(self._attempt, action, self._identity, NestedRunner())
            with transaction.session.begin_nested():
                result = execution.run(self._intent)
            row = execution.outcome("succeeded", result, None)
            transaction.nested.append(row)
            return outcome_of(row, 0)
        except Exception as caught:
            error = as_ours(caught)
            transaction.nested.append(self._failure(execution, error))
            if isinstance(error, ActionBusError) and error.action_id is None:
                error.action_id = self._identity.action_id
            if error is caught:
                raise
            raise error from None
        finally:
            if execution:
                execution.close()

    def _failure(self, execution: Execution | None, error: BaseException) -> Row:
        if execution:
            return execution.outcome(status_of(error), None, error)
        told = describe_error(error, self._attempt.scrubber)
        started = self._attempt.started_at
        return self._identity.outcome(self._intent.name, status_of(error), started_at=started, error=told)
