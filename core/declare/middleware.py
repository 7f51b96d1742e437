"""Middleware: an application's own code around every action, for timing, metrics, tracing, tenancy.

    class Tenancy(Middleware):
        def around_execution(self, call, session, proceed):
            session.execute(text("SELECT set_config('app.tenant', :t, true)"), {"t": call.context["tenant"]})
            proceed()

    Application("shop", actions=["shop.actions"], middleware=[Tenancy()])

The first of the list is the outermost. One object serves all threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from actionbus.core.declare.asynchronous import async_problem, refuse_awaitable
from actionbus.core.declare.given import listed
from actionbus.core.errors import ConfigurationError, Misuse
from actionbus.core.values.public import public
from actionbus.core.values.readable import words

_METHODS = ("around_call", "around_execution")
R = TypeVar("R")


@public
@dataclass(frozen=True, slots=True)
class ActionCall:
    """What is known of an action before it is run."""

    action: str
    action_id: UUID
    actor: str | None
    correlation_id: str
    cause_id: UUID | None
    """The action that runs this one inside its own transaction, or that queued it."""
    context: Mapping[str, Any]
    mode: str
    """`execute`; `execute_async`, which only validates and queues; `worker`, which runs what was queued; or `preview`,
    which is rolled back."""


@public
class Middleware:
    """Override one method or both. What they raise reaches the caller as if the action had raised it.

    One that does not call `proceed`, calls it twice, or keeps what it raised or returned to itself is refused (Misuse).
    """

    def around_call(self, call: ActionCall, proceed: Callable[[], R]) -> R:
        """Around the whole call, its two records included. Call `proceed` once and return what it returns.

        What is raised before `proceed` keeps the call from being submitted: nothing is journaled then.
        """
        return proceed()

    def around_execution(self, call: ActionCall, session: Session, proceed: Callable[[], None]) -> None:
        """Around the handler, inside the action's transaction, before permissions are asked; call `proceed` once.

        Once for every attempt: a serialization failure runs it again. What is raised is the action's failure.
        """
        proceed()


def middlewares(given: Any, problems: list[str]) -> tuple[Middleware, ...]:
    """What an application or a bus is given as `middleware`; what is wrong with it is added to `problems`."""
    name = type(given).__qualname__ if isinstance(given, Middleware) else ""
    return listed(
        "middleware", given, lambda each: isinstance(each, Middleware), "objects of Middleware", problems, f"{name}()"
    )


class Chain:
    """All middleware of a bus, in order."""

    def __init__(self, middleware: Sequence[Middleware]) -> None:
        if problems := [problem for each in middleware for name in _METHODS for problem in _problem(each, name)]:
            raise ConfigurationError(problems)
        self._calls = [each for each in middleware if _overrides(each, "around_call")]
        self._executions = [each for each in middleware if _overrides(each, "around_execution")]

    @property
    def is_around_calls(self) -> bool:
        """Whether any of them is around whole calls."""
        return bool(self._calls)

    @property
    def is_around_executions(self) -> bool:
        """Whether any of them is around handlers."""
        return bool(self._executions)

    def around_call(self, call: Callable[[], ActionCall], proceed: Callable[[], R]) -> R:
        """`proceed`, with every `around_call` about it."""
        if not self._calls:
            return proceed()
        told = call()
        for each in reversed(self._calls):
            turn = _Turn(each, "around_call", proceed)
            proceed = partial(turn.take, partial(each.around_call, told, turn))
        return proceed()

    def around_execution(
        self, call: Callable[[], ActionCall], session: Callable[[], Session], proceed: Callable[[], None]
    ) -> None:
        """`proceed`, with every `around_execution` about it."""
        if not self._executions:
            proceed()
            return
        told, opened = call(), session()
        for each in reversed(self._executions):
            turn = _Turn(each, "around_execution", proceed)
            proceed = partial(turn.take, partial(each.around_execution, told, opened, turn))
        proceed()


class _Turn(Generic[R]):
    """`proceed` as one middleware gets it; what it makes of that is checked once it has returned."""

    __slots__ = ("_name", "_proceed", "_raised", "_result", "_was_called")

    def __init__(self, middleware: Middleware, method: str, proceed: Callable[[], R]) -> None:
        self._name = f"{type(middleware).__qualname__}.{method}()"
        self._proceed = proceed
        self._result: R | None = None
        self._raised: BaseException | None = None
        self._was_called = False

    def __call__(self) -> R:
        if self._was_called:
            raise Misuse(f"{self._name} called proceed() a second time; an action is run once")
        self._was_called = True
        try:
            result = self._result = self._proceed()
        except BaseException as error:
            self._raised = error
            raise
        return result

    def take(self, run: Callable[[], R]) -> R:
        """Let the middleware run. Raises what it raises, and Misuse if it did not what it is there for."""
        try:
            result = refuse_awaitable(run(), self._name)
            if not self._was_called:
                raise Misuse(f"{self._name} returned without calling proceed()")
            if (lost := self._raised) is not None:
                told = f"{type(lost).__name__}: {words(lost)}"[:1000]
                raise Misuse(f"{self._name} kept to itself what proceed() raised: {told}") from lost
            if result is None and self._result is not None:
                raise Misuse(f"{self._name} returned None instead of what proceed() returns")
            return result
        finally:
            self._raised = None  # whose traceback leads here


def _problem(middleware: Middleware, name: str) -> list[str]:
    return async_problem(getattr(middleware, name), f"{type(middleware).__qualname__}.{name}()")


def _overrides(middleware: Middleware, name: str) -> bool:
    return getattr(type(middleware), name) is not getattr(Middleware, name)
