"""Every mistake in a declaration is found when the Bus is built."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from actionbus import Application, Arg, Bus, ConfigurationError, outside, pure
from actionbus.core.declare.registry import Registry, class_name_of
from tests.core.declare.packages import GOOD, package
from tests.shop.app import make_application

__all__ = ["package"]


def problems(*packages: str, **dependencies: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Bus(Application("x", actions=packages, dependencies=dependencies), "sqlite://")
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = 1", "exactly one ActionHandler; there: none"),
        (GOOD.format(body="") + GOOD.format(body="").replace("DoIt", "Other"), "exactly one"),
        (GOOD.format(body="").replace("DoIt", "Wrong"), "must be called DoIt"),
        ("import nothing_of_that_name", "cannot be imported"),
        ("from actionbus import ActionHandler\nclass DoIt(ActionHandler): pass", "no execute()"),
        (GOOD.format(body="requires = ['nope']"), "requires 'nope', which no provider gives"),
        (GOOD.format(body="requires = 'repo'"), "must be a list of names"),
        (GOOD.format(body="requires = 5"), "must be a list of names, not 5"),
        (GOOD.format(body="requires = [5]"), "must be a list of names"),
        (GOOD.format(body="arguments = {5: Arg(str)}"), "must map names to Arg"),
        (GOOD.format(body="requires = ['validate']"), "name of something the handler has already"),
        (GOOD.format(body="permission = 'x'"), "requires 'checkpoint', which no provider gives"),
        (GOOD.format(body="version = 0"), "`version` must be a whole number from 1 up, not 0"),
        (GOOD.format(body="isolation = 'CHAOS'"), "`isolation` must be one of"),
        (GOOD.format(body="arguments = {'a': str}"), "must map names to Arg"),
        (GOOD.format(body="arguments = {'reject': Arg(str)}"), "name of something a handler has already"),
        (GOOD.format(body="arguments = {'keys': Arg(str)}"), "name of something a handler has already"),
        (GOOD.format(body="arguments = {'not ok': Arg(str)}"), "not a plain Python name"),
        (GOOD.format(body="arguments = {'a': Arg(str, options=['x'], default='y')}"), "is not valid"),
        (GOOD.format(body="arguments = {'a': Arg(int, default='7')}"), "not of the declared type"),
        (GOOD.format(body="arguments = {'a': Arg(list[int], default=[])}"), "shared by all calls"),
        (GOOD.format(body="arguments = {'a': Arg(dict, default={})}"), "shared by all calls"),
        (GOOD.format(body="arguments = {'a': Arg(object)}"), "not a type an Arg can have"),
        (GOOD.format(body="arguments = {'a': Arg(str, required=True, default='x')}"), "can never be used"),
        (GOOD.format(body="arguments = {'a': Arg(str, options=[])}"), "options is empty"),
        (GOOD.format(body="arguments = {'a': Arg(str, validator=7)}"), "must be callable"),
    ],
)
def test_mistakes_in_a_module(package: Callable[..., str], source: str, told: str) -> None:
    assert told in problems(package(do_it=source))


def test_two_packages_with_the_same_action(package: Callable[..., str]) -> None:
    source = GOOD.format(body="")
    assert "in two places" in problems(package(do_it=source), package(do_it=source))


def test_a_module_whose_name_no_client_could_send(package: Callable[..., str]) -> None:
    assert "lower case" in problems(package(DoIt=GOOD.format(body="")))


def test_modules_that_begin_with_an_underscore_are_no_actions(package: Callable[..., str]) -> None:
    found = Registry(Application("x", actions=[package(_help="x = 1", do_it=GOOD.format(body=""))]))
    assert [action.name for action in found] == ["do_it"]


def test_mistakes_in_dependencies(package: Callable[..., str]) -> None:
    told = problems(
        package(do_it=GOOD.format(body="requires = ['a']")),
        a=lambda b: b,
        b=lambda a: a,
        bare=lambda: 1,
        session=lambda: 2,
        number=7,
        asks=lambda missing: missing,
    )
    for each in (
        "a → b → a need each other in a circle",
        "dependency 'bare' takes no parameters",
        "dependency 'session' has the name of a built-in one",
        "dependency 'number' is not callable",
        "dependency 'asks' requires 'missing'",
    ):
        assert each in told


def test_outside_and_pure_say_what_a_provider_without_parameters_is(package: Callable[..., str]) -> None:
    name = package(do_it=GOOD.format(body="requires = ['o', 'p']"))
    application = Application("x", actions=[name], dependencies={"o": outside(object), "p": pure(object)})
    assert Registry(application).get("do_it").plan.may_reach_outside


@pytest.mark.parametrize("name", ["os", "core.bus", "__import__", "deposit ", "Deposit", "dépôt", "a" * 101, "1a"])
def test_nothing_but_declared_actions_is_ever_imported(name: str) -> None:
    registry = Registry(make_application())
    before = set(sys.modules)
    assert registry.find(name) is None
    assert set(sys.modules) == before


def test_class_names() -> None:
    assert class_name_of("add_asset") == "AddAsset"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://x", "mysql is not supported"),
        ("nonsense", "cannot be read"),
        ("postgresql+asyncpg://x", "postgresql\\+asyncpg is not supported"),
    ],
)
def test_a_database_that_is_not_supported_is_said(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Bus(make_application(), url)


def test_packages_that_are_not_there() -> None:
    assert "cannot be imported" in problems("no.such.package")
    assert "not a package" in problems("json.decoder")


def test_what_loads_arguments_is_made_once_and_anew_for_other_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be equal to what they were, by a value that is not the same: 1, True and 1.0."""
    first, second = (Registry(make_application()).get("deposit") for _ in range(2))
    assert first.schema is second.schema
    one, other = Arg(int, options=(1,)), Arg(int, options=(True,))
    assert one == other
    seen = []
    for each in (one, one, other):
        monkeypatch.setattr(first.handler, "arguments", {"id": each})
        seen.append(Registry(make_application()).get("deposit").schema)
    assert seen[0] is seen[1] is not seen[2] is not first.schema
    monkeypatch.undo()
    assert set(Registry(make_application()).get("deposit").schema.fields) == set(first.schema.fields)
