"""Providers make what handlers ask for in `requires`; this module declares them, orders them and builds them.

An application declares providers; the registry makes a `Plan` per handler when the Bus is built; the runner builds it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from actionbus.core.declare.after_commit import AT_ONCE, AfterCommit
from actionbus.core.declare.asynchronous import async_methods, async_problem, refuse_awaitable
from actionbus.core.declare.queue import Retry
from actionbus.core.declare.reaching import reaching_out
from actionbus.core.errors import Misuse

BUILT_IN: Final = frozenset(
    {"session", "actor", "context", "clock", "ids", "random", "secrets", "logger", "runner", "serializer"}
)
"""Names that the bus itself provides. An application may replace `logger` and `serializer`."""
REPLACEABLE: Final = frozenset({"logger", "serializer"})

Nature = Literal["re-run", "outside", "postponed", "pure"]
"""`postponed`: an outside one whose calls are made after the commit, by an action in which it is `outside`."""


@dataclass(frozen=True, slots=True)
class DeclaredProvider:
    """A factory marked by `outside` or `pure`."""

    factory: Callable[..., Any]
    nature: Nature
    preview: Callable[[], Any] | None = None
    """Of an outside one: makes what stands in for it in a preview."""
    after_commit: AfterCommit = AT_ONCE
    """Of a postponed one: how its calls are made."""


def outside(
    factory: Callable[..., Any],
    *,
    preview: Callable[[], Any] | None = None,
    after_commit: bool = False,
    key: str | None = None,
    retry: Retry | None = None,
) -> DeclaredProvider:
    """A dependency that reaches beyond the database: its calls are recorded, and played back in a sandbox.

    `preview` makes what stands in for it in `ActionRunner.preview`, and reaches nobody; without it, calls are refused
    there.

    With `after_commit` a call is written down with the action's outcome, and made once that is committed: at least
    once, by an action of its own, `perform_NAME`. So it gives nothing inside the handler but a `PostponedCall`. `key`
    names the parameter by which the other side is told a text that stays the same however often a call is made;
    `retry` says what a call may raise and be made again for, by default anything, 20 times.
    """
    return DeclaredProvider(factory, "postponed" if after_commit else "outside", preview, AfterCommit(key, retry))


def pure(factory: Callable[..., Any]) -> DeclaredProvider:
    """A stateless dependency: made anew wherever an action runs, in a sandbox too."""
    return DeclaredProvider(factory, "pure")


@dataclass(frozen=True, slots=True)
class Provider:
    """A named factory with the names of what it needs itself."""

    name: str
    factory: Callable[..., Any]
    needs: tuple[str, ...]
    nature: Nature
    generator: bool
    preview: Callable[[], Any] | None = None
    after_commit: AfterCommit = AT_ONCE


def read_providers(dependencies: Mapping[str, Any], problems: list[str]) -> dict[str, Provider]:
    """The application's providers by name; what is wrong with them is added to `problems`."""
    found: dict[str, Provider] = {}
    for name, given in dependencies.items():
        declared = given if isinstance(given, DeclaredProvider) else DeclaredProvider(given, "re-run")
        if not callable(declared.factory):
            problems.append(f"dependency {name!r} is not callable; give a function or class that makes it")
        elif declared.preview is not None and not callable(declared.preview):
            problems.append(
                f"dependency {name!r}: preview= takes a function or class, without parameters, that makes it"
            )
        elif name in BUILT_IN - REPLACEABLE:
            problems.append(f"dependency {name!r} has the name of a built-in one; choose another")
        else:
            problems += declared.after_commit.problems(
                name, declared.nature == "postponed", has_preview=declared.preview is not None
            )
            found[name] = _provider(name, declared, problems)
            problems += _async_problems(name, declared)
    return found


def _provider(name: str, declared: DeclaredProvider, problems: list[str]) -> Provider:
    try:
        signature = inspect.signature(declared.factory)
    except (TypeError, ValueError):
        signature = inspect.Signature()
    needs = tuple(p.name for p in signature.parameters.values() if _is_asked_for(p))
    if not needs and declared.nature == "re-run":
        problems.append(
            f"dependency {name!r} takes no parameters, so nothing tells what it is; wrap it: outside({name}) if it "
            f"reaches beyond the database, pure({name}) if it is stateless"
        )
    function = declared.factory
    is_generator = inspect.isgeneratorfunction(function)
    return Provider(name, function, needs, declared.nature, is_generator, declared.preview, declared.after_commit)


def _async_problems(name: str, declared: DeclaredProvider) -> list[str]:
    found = async_problem(declared.factory, f"dependency {name!r}")
    asked = name == "checkpoint" or declared.nature in ("outside", "postponed")
    if asked and (methods := async_methods(declared.factory)):
        found.append(
            f"dependency {name!r} has async methods ({', '.join(methods)}), which a handler cannot await; give an "
            "object with plain methods, which may run what is async to its end (asyncio.run)"
        )
    return found


def _is_asked_for(parameter: inspect.Parameter) -> bool:
    """Parameters with defaults are the provider's own, as `*args` are: only the others are injected."""
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not variadic


@dataclass(frozen=True, slots=True)
class Plan:
    """What to build for one handler, in order."""

    steps: tuple[Provider, ...]
    built_in: frozenset[str]
    may_reach_outside: bool
    """Whether an outside call may be made, by the handler itself or by an action that it runs."""


def plan_for(
    wanted: Iterable[str],
    providers: Mapping[str, Provider],
    who: str,
    problems: list[str],
    *,
    performing: str | None = None,
) -> Plan:
    """The plan for `wanted`; unknown names and cycles are added to `problems`.

    `performing` is the dependency whose postponed calls are made: it alone of the postponed ones is made here.
    """
    steps: dict[str, Provider] = {}
    built_in: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            cycle = " → ".join([*path[path.index(name) :], name])
            problems.append(f"the dependencies {cycle} need each other in a circle")
        elif name in providers:
            if name not in steps:
                provider = providers[name]
                if name == performing:
                    provider = replace(provider, nature="outside")
                if provider.nature != "postponed":
                    for need in provider.needs:
                        visit(need, (*path, name))
                steps[name] = provider
        elif name in BUILT_IN:
            built_in.add(name)
        else:
            asked_by = f"dependency {path[-1]!r}" if path else who
            known = ", ".join(sorted({*providers, *BUILT_IN}))
            problems.append(f"{asked_by} requires {name!r}, which no provider gives; there are: {known}")

    for name in wanted:
        visit(name, ())
    reaches = "runner" in built_in or any(step.nature == "outside" for step in steps.values())
    return Plan(tuple(steps.values()), frozenset(built_in), reaches)


_being_made: ContextVar[Provider | None] = ContextVar("actionbus_being_made", default=None)


def being_made() -> Provider | None:
    """The provider that is making its dependency here."""
    return _being_made.get()


class ActionDependencies:
    """The objects of one action, and the generators that clean up after them."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self._open: list[tuple[Provider, Generator[Any, None, None]]] = []
        _being_made.set(None)  # an interrupted action may have left its provider here

    def make(self, provider: Provider) -> Any:
        """Call the provider over the objects made so far."""
        before = _being_made.get()
        try:
            _being_made.set(provider)
            with reaching_out() if provider.nature == "outside" else nullcontext():
                made = provider.factory(**{need: self.objects[need] for need in provider.needs})
                if provider.generator:
                    self._open.append((provider, made))
                    made = next(made)
        finally:
            _being_made.set(before)
        return refuse_awaitable(made, f"the dependency {provider.name!r}")

    def close(self, complain: Callable[[str, BaseException], None] | None) -> None:
        """Resume every generator after its `yield`, the latest first; each gets its turn, whatever the others raise.

        With `complain`, what they raise is told there; without, the first of it is raised, the rest added as notes.
        """
        problems: list[Exception] = []
        while self._open:
            provider, generator = self._open.pop()
            try:
                with reaching_out() if provider.nature == "outside" else nullcontext():
                    _resume(provider.name, generator)
            except Exception as error:
                if complain:
                    complain(provider.name, error)
                problems.append(error)
        if problems and not complain:
            for further in problems[1:]:
                problems[0].add_note(f"then, while cleaning up: {type(further).__name__}: {further}")
            raise problems[0]


def _resume(name: str, generator: Generator[Any, None, None]) -> None:
    try:
        next(generator)
    except StopIteration:
        return
    generator.close()
    raise Misuse(f"the provider of {name!r} yields more than once; it makes one thing, and cleans up after the `yield`")
