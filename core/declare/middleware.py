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
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from actionbus.core.declare.asynchronous import async_problem, refuse_awaitable
from actionbus.core.errors import ConfigurationError

_METHODS = ("around_call", "around_execution")
R = TypeVar("R")


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
    """`execute`; `execute_async`, which only validates and queues; or `worker`, which runs what was queued."""


class Middleware:
    """Override one method or both. What they raise reaches the caller as if the action had raised it."""

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


class Chain:
    """All middleware of a bus, in order."""

    def __init__(self, middleware: Sequence[Middleware]) -> None:
        if problems := [problem for each in middleware for name in _METHODS for problem in _problem(each, name)]:
            raise ConfigurationError(problems)
        self._calls = [each for each in middleware if _overrides(each, "around_call")]
        self._executions = [each for each in middleware if _overrides(each, "around_execution")]

    def around_call(self, call: Callable[[], ActionCall], proceed: Callable[[], R]) -> R:
        """`proceed`, with every `around_call` about it."""
        if not self._calls:
            return proceed()
        told = call()
        for each in reversed(self._calls):
            proceed = partial(each.around_call, told, proceed)
        return refuse_awaitable(proceed(), "a middleware's around_call()")

    def around_execution(
        self, call: Callable[[], ActionCall], session: Callable[[], Session], proceed: Callable[[], None]
    ) -> None:
        """`proceed`, with every `around_execution` about it."""
        if not self._executions:
            proceed()
            return
        told, opened = call(), session()
        for each in reversed(self._executions):
            proceed = partial(each.around_execution, told, opened, proceed)
        refuse_awaitable(proceed(), "a middleware's around_execution()")  # type: ignore[func-returns-value]


def _problem(middleware: Middleware, name: str) -> list[str]:
    return async_problem(getattr(middleware, name), f"{type(middleware).__qualname__}.{name}()")


def _overrides(middleware: Middleware, name: str) -> bool:
    return getattr(type(middleware), name) is not getattr(Middleware, name)
