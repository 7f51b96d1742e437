"""Runs one action's handler inside a transaction: steps 4 to 6 of a call. Used for outer and nested actions alike."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from marshmallow import ValidationError

from actionbus.core.declare.asynchronous import refuse_awaitable
from actionbus.core.declare.dependencies import Built, Provider
from actionbus.core.declare.handler import ActionHandler, Arguments
from actionbus.core.declare.registry import Action, Registry
from actionbus.core.errors import (
    ConfigurationError,
    InvalidArguments,
    PermissionDenied,
)
from actionbus.core.gateway.failures import describe_error
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.inside import handling
from actionbus.core.gateway.intent import Intent
from actionbus.core.gateway.outside_calls import Call
from actionbus.core.gateway.sealing import Sealer
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.transaction import ActionTransaction
from actionbus.core.gateway.world import World
from actionbus.core.secrecy.action_logger import ActionLogger
from actionbus.core.secrecy.scrubbing import Scrubber, active
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload
from actionbus.core.values.determinism import Clock, Ids, nested_identity, seeded_random
from actionbus.core.values.limits import Limits
from actionbus.core.values.record import Status
from actionbus.core.values.serializer import Serializer

log = logging.getLogger("actionbus")


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
    earlier: deque[Call]
    """Calls of the try before, which answer this one's."""
    seen: str | None = None
    tape: list[Call] = field(default_factory=list)
    nested: int = 0
    mode: str = "execute"
    world: World = REAL_WORLD
    sealer: Sealer = field(default_factory=Sealer)

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


class Nesting(Protocol):
    """Makes the `runner` dependency: `gateway.nested` answers."""

    def inside(self, execution: Execution) -> Any:
        """A runner whose actions are caused by `execution`'s."""


class Execution:
    """One handler's run."""

    def __init__(self, attempt: Attempt, action: Action, identity: Identity, runner: Nesting) -> None:
        self.attempt = attempt
        self.action = action
        self.identity = identity
        self.calls = attempt.world.calls(
            identity.action_id, attempt.limits, attempt.scrubber, attempt.earlier, attempt.tape
        )
        self.arguments: str | None = None
        self._runner = runner
        self._built = Built()
        self._began = time.perf_counter_ns()

    def run(self, intent: Intent) -> str:
        """Validate the arguments, build what the handler requires, ask permission, validate and execute.

        Gives the result as JSON text.
        """
        with self._handling(self.identity.action_id):
            handler = self._with_arguments(intent)
            results: list[Any] = []

            def proceed() -> None:
                try:
                    self._then_clean_up(lambda: results.append(self._executed(handler)))
                    self.attempt.transaction.flush()
                except BaseException as error:
                    if self.attempt.scrubber:  # here, so that no middleware sees a secret either
                        self.attempt.scrubber.reraise(error)
                    raise

            self._inside(proceed)
            return self._result_text(results[-1])

    def check(self, intent: Intent) -> None:
        """All of `run` that comes before execute(), for an action that is queued; its transaction is rolled back."""
        with self._handling(self.identity.action_id):
            handler = self._with_arguments(intent)

            self._inside(lambda: self._then_clean_up(lambda: self._validate(handler)))

    def ask(self, permission: str, arguments: Arguments) -> None:
        """Ask the application's checkpoint, if it has one. Raises PermissionDenied."""
        handler = self.action.handler()

        def require() -> None:
            self._inject(handler)
            if "checkpoint" in self._built.objects:
                self._require(permission, arguments)

        with self._handling(None):
            self._then_clean_up(require)

    def _require(self, permission: str, arguments: Arguments) -> None:
        refuse_awaitable(self._built.objects["checkpoint"].require(permission, arguments), "checkpoint.require()")

    def _with_arguments(self, intent: Intent) -> ActionHandler:
        handler = self.action.handler()
        values = load_arguments(self.action, intent)
        handler.set_args(values)
        self.attempt.sealer.remember(self.identity.action_id, values)
        self.arguments = arguments_text(self.action, values, self.attempt.limits, self.attempt.scrubber)
        return handler

    def _inside(self, proceed: Callable[[], None]) -> None:
        attempt = self.attempt
        scrubbing = active.set(attempt.scrubber)
        try:
            attempt.services.middleware.around_execution(
                lambda: self.identity.call(self.action.name, attempt.mode), lambda: attempt.transaction.session, proceed
            )
        finally:
            active.reset(scrubbing)

    def _handling(self, action_id: UUID | None) -> handling:
        return handling(self.attempt.transaction, self.attempt.services.engine, action_id)

    def _validate(self, handler: ActionHandler) -> None:
        self._inject(handler)
        self._ask_leave(handler)
        refuse_awaitable(handler.validate(), "validate()")  # type: ignore[func-returns-value]
        _stop_if_rejected(handler)

    def _executed(self, handler: ActionHandler) -> Any:
        self._validate(handler)
        result = refuse_awaitable(self.attempt.world.run(handler), "execute()")
        _stop_if_rejected(handler)
        return result

    def _ask_leave(self, handler: ActionHandler) -> None:
        """Ask for the handler's permission. Where there is no checkpoint to ask, what is for operators is denied."""
        if not handler.permission or (handler.for_operators and self.identity.caller.operator):
            return
        if "checkpoint" not in self._built.objects:
            raise PermissionDenied(
                f"{self.action.name} takes the permission {handler.permission}, and the application has no checkpoint "
                "to grant it; only who operates the service may do this, on the command line"
            )
        self._require(handler.permission, handler.args)

    def _then_clean_up(self, do: Callable[[], None]) -> None:
        """Let the dependencies clean up after it, still inside the transaction, so that nothing escapes that.

        What cleaning up raises fails the action, as any other exception does; after another one it is logged. No
        generator's context manager, which would set the traceback of what was raised, and so fail if that is frozen.
        """
        try:
            do()
        except BaseException:
            self._built.close(self._complain)
            raise
        self._built.close(None)

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
            calls=self._calls_text(),
            seen=self.attempt.seen,
            duration_us=(time.perf_counter_ns() - self._began) // 1000,
        )

    def _calls_text(self) -> str | None:
        shown = self.calls.shown()
        return payload.dumps(self.attempt.scrubber.json(shown)) if shown else None

    def _result_text(self, result: Any) -> str:
        serializer = self._built.objects.get("serializer") or _SERIALIZER
        shown = payload.primitive(serializer.dump(result), self.attempt.limits)
        text = payload.dumps(self.attempt.scrubber.json(shown))
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
                return self._runner.inside(self)
            case "serializer":
                return Serializer()
        raise ConfigurationError([f"there is no built-in dependency {name!r}"])

    def _complain(self, name: str, error: BaseException) -> None:
        clean = self.attempt.scrubber.exception(error)
        log.error("dependency %s failed while cleaning up after %s", name, self.action.name, exc_info=clean)


def load_arguments(action: Action, intent: Intent) -> dict[str, Any]:
    """The validated arguments. Raises InvalidArguments, with all errors at once."""
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
    """Validated arguments as the outcome keeps them."""
    shown: dict[str, Any] = {}
    for name, value in values.items():
        if name in action.sensitive:
            shown[name] = payload.REDACTED
            scrubber.remember(value)
            continue
        try:
            shown[name] = payload.primitive(value, limits, depth=2)
        except ValueError:
            # A value that the application's own field made: the field knows its JSON form.
            shown[name] = payload.primitive(action.schema.fields[name].serialize(name, values), limits, depth=2)
    return payload.dumps(scrubber.arguments(shown))


def _stop_if_rejected(handler: ActionHandler) -> None:
    if handler._rejections:
        raise InvalidArguments(dict(handler._rejections))
