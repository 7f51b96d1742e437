"""A declaration whose name is mistyped would do nothing: the bus warns when it is built, and names the near one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from actionbus import Application, Bus
from actionbus.core.values.nearest import nearest
from actionbus.projections import Projection, Subscription, on
from tests.core.declare.packages import GOOD, package
from tests.queued.actions.take_step import TakeStep
from tests.queued.app import make_application

__all__ = ["package"]

MISTYPED = {
    "retries": "retry",
    "retry_": "retry",
    "time_out": "timeout",
    "timeouts": "timeout",
    "prioirty": "priority",
    "requries": "requires",
    "require": "requires",
    "agruments": "arguments",
    "argument": "arguments",
    "verison": "version",
    "premission": "permission",
    "isolaton": "isolation",
    "quue": "queue",
    "queues": "queue",
    "concurrencykey": "concurrency_key",
    "unqiue": "unique",
    "evry": "every",
    "for_operator": "for_operators",
}
OWN = ["model", "query", "variants", "currency", "reason", "_retries", "EVENT", "seconds", "limit", "validator_class"]


def _warned_of(application: Application) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Bus(application, "sqlite://").close()
    return [str(each.message) for each in caught if each.category is UserWarning]


@pytest.mark.parametrize(("name", "near"), MISTYPED.items())
def test_an_attribute_that_is_nearly_a_declaration_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, name: str, near: str
) -> None:
    monkeypatch.setattr(TakeStep, name, 3, raising=False)
    (told,) = _warned_of(make_application())
    assert f"TakeStep has {name!r}, which nothing reads; did you mean {near!r}?" in told


@pytest.mark.parametrize(("name", "near"), [("validte", "validate"), ("excute", "execute"), ("up_cast", "upcast")])
def test_so_is_a_method(monkeypatch: pytest.MonkeyPatch, name: str, near: str) -> None:
    def step(self: Any) -> None: ...

    monkeypatch.setattr(TakeStep, name, step, raising=False)
    assert f"{name!r}, which nothing reads; did you mean {near!r}?" in _warned_of(make_application())[0]


@pytest.mark.parametrize("name", OWN)
def test_attributes_of_its_own_are_a_handlers_affair(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(TakeStep, name, 3, raising=False)
    assert _warned_of(make_application()) == []


def test_the_warning_is_at_the_class_and_comes_once(package: Callable[..., str]) -> None:
    application = Application("x", actions=[package(do_it=GOOD.format(body="retries = 3"))])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            Bus(application, "sqlite://").close()
    (warning,) = caught
    assert (warning.filename[-8:], warning.lineno) == ("do_it.py", 3)


def test_a_mixins_attributes_are_looked_at_too(package: Callable[..., str]) -> None:
    source = "class Mixin:\n    timout = 3.0\n" + GOOD.format(body="").replace(
        "(ActionHandler)", "(Mixin, ActionHandler)"
    )
    (told,) = _warned_of(Application("x", actions=[package(do_it=source)]))
    assert "Mixin has 'timout', which nothing reads; did you mean 'timeout'?" in told


class Steps(Projection):
    """With a reducer whose name is near one of the base's, which is fine, and a declaration that is not."""

    mapping: ClassVar[dict[str, Any]] = {}

    @on("take_step", key="track")
    def problem(self, document: Any, record: Any) -> Any:
        return document


class Follower(Subscription):
    """With a size that nothing reads."""

    batches = 7

    def handle(self, records: Sequence[Any]) -> None: ...


def test_so_are_projections_and_subscriptions() -> None:
    told = _warned_of(make_application(projections=[Steps], subscriptions=[Follower]))
    assert len(told) == 2
    assert "Steps has 'mapping', which nothing reads; did you mean 'mappings'?" in told[0]
    assert "Follower has 'batches', which nothing reads; did you mean 'batch'?" in told[1]


def test_the_nearest_is_the_most_alike() -> None:
    assert nearest("DATABSE_URL", ["DATABASE_URL", "TEST_DATABASE_URL"]) == "DATABASE_URL"
    assert nearest("anything", []) is None
