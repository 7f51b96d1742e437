"""Scenarios: actions that came before, the one that is looked at, and what is expected of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any
from uuid import UUID

from actionbus.core import Bus, InvalidArguments, Record
from actionbus.core.gateway.failures import as_ours, status_of

Results = list[Any]
"""The results of the actions run so far, in order."""
Arguments = Mapping[str, Any] | Callable[[Results], Mapping[str, Any]]
"""Arguments, or a function that makes them of the results of the actions before."""
Step = tuple[str, Arguments] | tuple[str, Arguments, str]
"""An action's name and arguments, and who asks if it is somebody else."""


@dataclass(frozen=True)
class Given:
    """Starts scenarios: the fixture `given`. `fakes` stand in for dependencies by their name."""

    bus: Bus
    fakes: Mapping[str, Any]

    def __call__(self, *steps: Step, actor: str | None = "tester") -> Scenario:
        """Run `steps`, each of which must succeed; `actor` asks where a step names nobody."""
        scenario = Scenario(self.bus, self.fakes, actor, [])
        for step in steps:
            scenario = scenario.and_given(step)
        return scenario


@dataclass(frozen=True)
class Scenario:
    """What was done so far."""

    bus: Bus
    fakes: Mapping[str, Any]
    actor: str | None
    results: Results

    def and_given(self, step: Step) -> Scenario:
        """One more action, which must succeed."""
        name, arguments, *who = step
        when = self.when(name, arguments, actor=who[0] if who else self.actor)
        assert when.error is None, f"given {name}: {when.describe()}"
        return Scenario(self.bus, self.fakes, self.actor, [*self.results, when.result])

    def when(
        self,
        name: str,
        arguments: Arguments | None = None,
        *,
        actor: str | EllipsisType | None = ...,
        queued: bool = False,
    ) -> When:
        """Run the action that is looked at, or queue it. What it raises is kept for `then`."""
        runner = self.bus.runner(self.actor if actor is ... else actor, overrides=self.fakes)
        given = arguments(self.results) if callable(arguments) else arguments
        action_id: UUID | None
        try:
            outcome = runner.execute_async(name, given) if queued else runner.execute(name, given)
            action_id, error = outcome.action_id, None
        except Exception as raised:
            error = as_ours(raised)
            action_id = getattr(raised, "action_id", None) or _noted(raised)
        record = self.bus.journal.get(action_id) if action_id else None
        return When(self, name, record, error)


@dataclass(frozen=True)
class When:
    """What came of the action."""

    scenario: Scenario
    name: str
    record: Record | None
    """Its outcome; its submitted record if it was queued; None if nothing could be journaled."""
    error: BaseException | None

    @property
    def status(self) -> str:
        """The outcome's status, or `queued`."""
        if self.error is not None:
            return status_of(self.error)
        return self.record.status or "queued" if self.record else "unknown"

    @property
    def result(self) -> Any:
        """The outcome's result."""
        return self.record.result if self.record else None

    @property
    def errors(self) -> dict[str, Any]:
        """Field → messages, if it was rejected for its arguments."""
        return dict(self.error.errors) if isinstance(self.error, InvalidArguments) else {}

    def then(
        self,
        *,
        status: str = "succeeded",
        result: Any = ...,
        errors: Mapping[str, Any] | None = None,
        raises: type[BaseException] | None = None,
        calls: list[Any] | None = None,
        postponed: list[Any] | None = None,
    ) -> When:
        """Assert what is given; `...` stands for anything, at any depth.

        `calls` are what it asked of outside dependencies: names, or dicts as the journal has them. `postponed` are the
        calls that it left until after its commit, in the same two ways; `run_queued()` makes them.
        """
        assert self.status == status, f"{self.name}: expected {status}, got {self.describe()}"
        if result is not ...:
            assert matches(self.result, result), f"{self.name}: expected the result {result!r}, got {self.result!r}"
        if errors is not None:
            assert matches(self.errors, dict(errors)), f"{self.name}: expected errors {errors!r}, got {self.errors!r}"
        if raises is not None:
            assert isinstance(self.error, raises), f"{self.name}: expected {raises.__name__}, got {self.describe()}"
        if calls is not None:
            self._expect("calls", self.record.calls or [] if self.record else [], calls)
        if postponed is not None:
            self._expect("postponed calls", self.postponed, postponed)
        return self

    @property
    def postponed(self) -> list[Any]:
        """The calls that it left until after its commit, as dicts with `call`, `args` and `kwargs`, and its `key`."""
        bus = self.scenario.bus
        names = {action.name for action in bus.registry if action.performs is not None}
        caused = bus.journal.read(cause_id=self.record.action_id, kind="submitted") if self.record else ()
        wanted = [each.arguments for each in caused if each.action in names]
        return [
            {"call": each["call"], "args": each["positional"], "kwargs": each["named"], "key": each["key"]}
            for each in wanted
        ]

    def _expect(self, what: str, made: list[Any], wanted: list[Any]) -> None:
        names = [each["call"] for each in made]
        shown = [each["call"] if isinstance(want, str) else each for each, want in zip(made, wanted, strict=False)]
        assert len(made) == len(wanted), f"{self.name}: expected {what} {wanted}, got {names}"
        assert matches(shown, wanted), f"{self.name}: expected {what} {wanted}, got {made}"

    def describe(self) -> str:
        """The status, and why, for a person."""
        if self.error is None:
            return self.status
        return f"{self.status} ({type(self.error).__name__}: {self.error})"


def matches(found: Any, wanted: Any) -> bool:
    """Whether they are equal where `wanted` is not `...`."""
    if wanted is ...:
        return True
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return found.keys() == wanted.keys() and all(matches(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(matches, found, wanted))
    return bool(found == wanted)


def _noted(error: BaseException) -> UUID | None:
    for note in getattr(error, "__notes__", []):
        if note.startswith("actionbus:"):
            return UUID(note.rsplit(" ", 1)[-1])
    return None
