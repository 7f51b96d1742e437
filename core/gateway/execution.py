"""Runs one action's handler and makes a row of its success: steps 4 to 6 of an action, as `gateway.call` counts them.

The one place that does: for outer and nested actions, queued ones and those that a sandbox runs again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from marshmallow import ValidationError

from actionbus.core.declare.asynchronous import refuse_awaitable
from actionbus.core.declare.dependencies import ActionDependencies, Provider
from actionbus.core.declare.handler import ActionHandler, Arguments
from actionbus.core.declare.registry import Action, Registry
from actionbus.core.errors import (
    ConfigurationError,
    InvalidArguments,
    PermissionDenied,
)
from actionbus.core.gateway.failures import describe_error, note_rejections
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.inside import handling
from actionbus.core.gateway.intent import Intent
from actionbus.core.gateway.outside_calls import OutsideCall
from actionbus.core.gateway.postponed import Postponing
from actionbus.core.gateway.sealing import Sealer
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.transaction import ActionTransaction
from actionbus.core.gateway.world import World
from actionbus.core.secrecy.action_logger import ActionLogger
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload
from actionbus.core.values.determinism import Clock, Ids, nested_identity, seeded_random
from actionbus.core.values.limits import Limits
from actionbus.core.values.record import Status
from actionbus.core.values.serializer import Serializer

log = logging.getLogger("actionbus")


R = TypeVar("R")
REAL_WORLD = World()
_SERIALIZER = Serializer()


@dataclass(slots=True)
class Attempt:
    """One try at an outermost action, with everything that its nested actions share."""

    services: Services
    transaction: ActionTransaction
    scrubber: Scrubber
    started_at: datetime
    seed: str
    nest: Callable[[Execution], Any]
    """Makes the `runner` dependency for the actions that an execution's handler runs: `gateway.nested.NestedRunner`."""
    earlier: deque[OutsideCall] = field(default_factory=deque)
    """Calls of the try before, which answer this one's."""
    seen: str | None = None
    tape: list[OutsideCall] = field(default_factory=list)
    nested: int = 0
    mode: str = "execute"
    world: World = REAL_WORLD
    sealer: Sealer = field(default_factory=Sealer)
    limited: Callable[[], AbstractContextManager[Any]] | None = None
    """Around the outermost handler while it runs; a queued action's takes its time."""
    asks_cancelled: Callable[[], bool] | None = None
    """Whether somebody cancelled the queued action that runs."""

    @property
    def registry(self) -> Registry:
        """The actions there are."""
        return self.services.registry

    @property
    def limits(self) -> Limits:
        """How large things may be."""
        return self.services.application.limits

    def nested_identity(self) -> tuple[UUID, str]:
        """Id and seed of the next nested action."""
        self.nested += 1
        return nested_identity(self.seed, self.nested)


class Execution:
    """One handler's run."""

    __slots__ = ("_began", "_built", "action", "arguments", "attempt", "calls", "identity", "result")

    def __init__(self, attempt: Attempt, action: Action, identity: Identity) -> None:
        self.attempt = attempt
        self.action = action
        self.identity = identity
        self.calls = attempt.world.calls(
            identity.action_id, attempt.limits, attempt.scrubber, attempt.earlier, attempt.tape
        )
        self.arguments: str | None = None
        """Validated arguments as JSON text; None before they are."""
        self.result: Any = None
        """What came of it in its JSON form, as it would be read from the record."""
        self._built = ActionDependencies()
        self._began = time.perf_counter_ns()

    def run(self, intent: Intent) -> Row:
        """Run the handler, and give the row of its success. Raises whatever keeps it from that.

        Step 4 is `_with_arguments`; `_handled` leads to `_execute`, which has steps 5 and 6.
        """
        attempt = self.attempt
        with handling(attempt.transaction, attempt.services.engine, self.identity.action_id, attempt.scrubber):
            handler = self._with_arguments(intent)
            if attempt.services.middleware.is_around_executions:
                result = self._inside_middleware(lambda: self._handled(handler))
            else:
                result = self._handled(handler)
            text = self._result_text(result)
        self._built.objects.clear()  # `runner` among them leads here: a circle, which would wait for the collector
        return self.outcome("succeeded", text, None)

    def check(self, intent: Intent) -> None:
        """All of `run` that comes before execute(), for an action that is queued; its transaction is rolled back."""
        attempt = self.attempt
        with handling(attempt.transaction, attempt.services.engine, self.identity.action_id, attempt.scrubber):
            handler = self._with_arguments(intent)
            self._inside_middleware(lambda: self._then_clean_up(self._inject_and_validate, handler))

    def ask(self, permission: str, arguments: Arguments) -> None:
        """Ask the application's checkpoint, if it has one. Raises PermissionDenied."""

        def require(handler: ActionHandler) -> None:
            self._inject(handler)
            if "checkpoint" in self._built.objects:
                self._require(permission, arguments)

        attempt = self.attempt
        with handling(attempt.transaction, attempt.services.engine, None, attempt.scrubber):
            self._then_clean_up(require, self.action.handler())

    def _is_outermost(self) -> bool:
        """Whether it is the one whose transaction it runs in, and not nested in another."""
        return self.identity.action_id == self.attempt.transaction.action_id

    def _with_arguments(self, intent: Intent) -> ActionHandler:
        """A new handler with its validated arguments. Raises InvalidArguments."""
        if self.action.performs is not None and self.identity.cause_id is None:
            raise PermissionDenied(f"{self.action.name} makes calls that actions postponed; nobody else asks for it")
        handler = self.action.handler()
        handler._ask_cancelled = self.attempt.asks_cancelled
        values = load_arguments(self.action, intent)
        handler.set_args(values)
        if self.attempt.sealer:
            self.attempt.sealer.remember(self.identity.action_id, values)
        self.arguments = arguments_text(self.action, values, self.attempt.limits, self.attempt.scrubber)
        return handler

    def _handled(self, handler: ActionHandler) -> Any:
        """What the handler returns, once all that it wrote has been sent."""
        attempt = self.attempt
        try:
            if attempt.limited is None or not self._is_outermost():
                return self._execute_and_flush(handler)
            with attempt.limited():
                return self._execute_and_flush(handler)
        except BaseException as error:
            if self.attempt.scrubber:  # here, so that no middleware sees a secret either
                self.attempt.scrubber.reraise(error)
            raise

    def _execute_and_flush(self, handler: ActionHandler) -> Any:
        result = self._then_clean_up(self._execute, handler)
        self.attempt.transaction.flush()
        return result

    def _execute(self, handler: ActionHandler) -> Any:
        """Steps 5 and 6."""
        self._inject_and_validate(handler)
        result = refuse_awaitable(self.attempt.world.run(handler), "execute()")
        _stop_if_rejected(handler)
        return result

    def _inject_and_validate(self, handler: ActionHandler) -> None:
        self._inject(handler)
        if handler.permission:
            self._ask_leave(handler)
        refuse_awaitable(handler.validate(), "validate()")  # type: ignore[func-returns-value]
        _stop_if_rejected(handler)

    def _ask_leave(self, handler: ActionHandler) -> None:
        """Ask for the handler's permission. Where there is no checkpoint to ask, what is for operators is denied."""
        assert handler.permission is not None
        if handler.for_operators and self.identity.caller.operator:
            return
        if "checkpoint" not in self._built.objects:
            raise PermissionDenied(
                f"{self.action.name} takes the permission {handler.permission}, and the application has no checkpoint "
                "to grant it; only who operates the service may do this, on the command line"
            )
        self._require(handler.permission, handler.args)

    def _require(self, permission: str, arguments: Arguments) -> None:
        refuse_awaitable(self._built.objects["checkpoint"].require(permission, arguments), "checkpoint.require()")

    def _then_clean_up(self, do: Callable[[ActionHandler], R], handler: ActionHandler) -> R:
        """Let the dependencies clean up after it, still inside the transaction, so that nothing escapes that.

        What cleaning up raises fails the action, as any other exception does; after another one it is logged. No
        generator's context manager, which would set the traceback of what was raised, and so fail if that is frozen.
        """
        try:
            result = do(handler)
        except BaseException as error:
            if handler._rejections:
                note_rejections(error, handler._rejections)
            self._built.close(self._complain)
            raise
        self._built.close(None)
        return result

    def _inside_middleware(self, do: Callable[[], R]) -> R:
        """What `do` gives, with the application's middleware about it."""
        results: list[R] = []
        attempt = self.attempt
        attempt.services.middleware.around_execution(
            lambda: self.identity.call(self.action.name, attempt.mode),
            lambda: attempt.transaction.session,
            lambda: results.append(do()),
        )
        return results[-1]

    def outcome(self, status: Status, result: str | None, error: BaseException | None) -> Row:
        """The outcome's row."""
        return self.identity.outcome(
            self.action.name,
            status,
            version=self.action.handler.version,
            started_at=self.attempt.started_at,
            arguments=self.arguments,
            result=result,
            error=describe_error(error, self.attempt.scrubber) if error else None,
            # Records of nested actions vanish with an outermost one that does not succeed; their calls were made.
            calls=self._calls_text(of_nested=status != "succeeded" and self._is_outermost()),
            seen=self.attempt.seen,
            duration_us=(time.perf_counter_ns() - self._began) // 1000,
        )

    def _calls_text(self, *, of_nested: bool) -> str | None:
        shown = self.calls.shown(of_nested=of_nested)
        return payload.dumps(self.attempt.scrubber.json(shown)) if shown else None

    def _result_text(self, result: Any) -> str:
        """JSON text of what the handler returned; `result` is what that text would be read as."""
        serializer = self._built.objects.get("serializer") or _SERIALIZER
        try:
            shown = payload.primitive(serializer.dump(result), self.attempt.limits)
        except payload.Unencodable as error:
            hint = "" if "; " in str(error) else "; return texts, numbers, lists and dicts"
            raise type(error)(f"the result cannot be kept: {error}{hint}") from error
        except RecursionError:
            raise payload.Unencodable(
                "the result is nested too deeply, or holds itself; return ids, not objects"
            ) from None
        self.result = self.attempt.scrubber.json(shown) if self.attempt.scrubber else shown
        text = payload.dumps(self.result)
        if len(text) > self.attempt.limits.result_bytes:
            raise ValueError(
                f"the result is {len(text)} bytes of JSON, more than the {self.attempt.limits.result_bytes} allowed; "
                "return ids, not contents"
            )
        return text

    def _inject(self, handler: ActionHandler) -> None:
        plan, objects = self.action.plan, self._built.objects
        for name in plan.built_in:
            objects[name] = self._built_in(name)
        overrides = self.identity.caller.overrides
        for provider in plan.steps:
            objects[provider.name] = self._provided(provider)
        for name in self.action.handler.requires:
            setattr(handler, name, overrides.get(name, objects[name]) if name in plan.built_in else objects[name])

    def _provided(self, provider: Provider) -> Any:
        if provider.nature == "postponed":
            return Postponing(provider, self.attempt.nest(self).postpone, provider.name)
        overrides = self.identity.caller.overrides
        if provider.name in overrides:
            made = overrides[provider.name]
            return self.attempt.world.replaced(self.calls, provider, made) if provider.nature == "outside" else made
        if provider.nature == "outside":
            return self.attempt.world.reach(self.calls, provider, partial(self._built.make, provider))
        return self._built.make(provider)

    def _built_in(self, name: str) -> Any:
        attempt, identity = self.attempt, self.identity
        match name:
            case "session":
                return attempt.transaction.session
            case "actor":
                return identity.caller.actor
            case "context":
                return identity.caller.context()
            case "clock":
                return Clock(attempt.started_at)
            case "ids":
                return Ids(identity.seed, attempt.started_at)
            case "random":
                return seeded_random(identity.seed)
            case "secrets":
                return attempt.world.secrets(attempt.scrubber.remember)
            case "logger":
                about = {
                    "action": self.action.name,
                    "action_id": str(identity.action_id),
                    "actor": identity.caller.actor,
                }
                return ActionLogger(self.action.name, about, attempt.scrubber)
            case "runner":
                return attempt.nest(self)
            case "serializer":
                return Serializer()
        raise ConfigurationError([f"there is no built-in dependency {name!r}"])

    def _complain(self, name: str, error: BaseException) -> None:
        clean = self.attempt.scrubber.exception(error)
        log.error("dependency %s failed while cleaning up after %s", name, self.action.name, exc_info=clean)


def load_arguments(action: Action, intent: Intent) -> dict[str, Any]:
    """The validated arguments. Raises InvalidArguments, with all errors at once."""
    if action.plain is not None and intent.problem is None:
        plain = action.plain.load(intent.values)
        if plain is not None:
            return plain
    errors: dict[str, Any] = dict(intent.problem.errors) if intent.problem else {}
    try:
        values: dict[str, Any] = action.schema.load(intent.values)
    except ValidationError as error:
        found = error.messages_dict
        errors = {**{name: told for name, told in found.items() if name not in errors}, **errors}
    if errors:
        kind = type(intent.problem) if intent.problem else InvalidArguments
        raise kind(errors)
    return values


def arguments_text(action: Action, values: Mapping[str, Any], limits: Limits, scrubber: Scrubber) -> str:
    """Validated arguments as the outcome keeps them. Raises InvalidArguments for what is beyond the limits."""
    shown: dict[str, Any] = {}
    too_much: dict[str, Any] = {}
    for name, value in values.items():
        if name in action.sensitive:
            shown[name] = payload.REDACTED
            scrubber.remember(value)
            continue
        try:
            shown[name] = payload.primitive(value, limits, depth=2)
        except (payload.TooLong, payload.TooDeep) as why:
            too_much[name] = [str(why)]
        except ValueError:
            # A value that the application's own field made: the field knows its JSON form.
            shown[name] = payload.primitive(action.schema.fields[name].serialize(name, values), limits, depth=2)
    if too_much:
        raise InvalidArguments(too_much)
    return payload.dumps(scrubber.arguments(shown, action.handler.arguments))


def _stop_if_rejected(handler: ActionHandler) -> None:
    if handler._rejections:
        raise InvalidArguments(dict(handler._rejections))
