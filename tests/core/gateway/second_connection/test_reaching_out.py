"""What is declared `outside` has connections of its own, and is no way around for what it calls back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus import Application, Bus, Misuse, outside
from tests.conftest import BusFactory, query
from tests.core.gateway.second_connection.ways import reading_one, transaction_of
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application


class Outer:
    """Reaches the database over connections of its own, in every way there is."""

    bind: Engine
    at_once = False

    def __init__(self) -> None:
        if self.at_once:
            reading_one(self.bind)

    def call(self) -> int:
        return reading_one(self.bind)

    @property
    def attribute(self) -> int:
        return reading_one(self.bind)

    def items(self) -> Iterator[int]:
        yield reading_one(self.bind)
        yield reading_one(self.bind)

    def __getitem__(self, key: str) -> int:
        return reading_one(self.bind)

    def __enter__(self) -> int:
        return reading_one(self.bind)

    def __exit__(self, *_: object) -> None:
        reading_one(self.bind)


def entered(handler: Any) -> list[int]:
    with handler.outer as found:
        return [found]


OUTSIDE: dict[str, Callable[[Any], Any]] = {
    "a call": lambda handler: [handler.outer.call()],
    "an attribute": lambda handler: [handler.outer.attribute],
    "items": lambda handler: list(handler.outer.items())[:1],
    "an item": lambda handler: [handler.outer["x"]],
    "a context": entered,
    "made": lambda handler: [1],
}


def outer_application(monkeypatch: pytest.MonkeyPatch) -> Application:
    monkeypatch.setattr(CallBack, "requires", ("session", "runner", "mailer", "outer"))
    made = make_application()
    made.dependencies["outer"] = outside(Outer)
    return made


@pytest.mark.parametrize("how", OUTSIDE)
def test_an_outside_dependency_has_connections_of_its_own(
    make_bus: BusFactory, function: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bus = make_bus(outer_application(monkeypatch))
    monkeypatch.setattr(Outer, "bind", bus.engine, raising=False)
    monkeypatch.setattr(Outer, "at_once", how == "made")
    function(OUTSIDE[how])
    assert bus.execute("call_back").result == [1]


@pytest.mark.parametrize("nature", ["outside", "re-run"])
def test_cleaning_up_is_outside_too_where_the_dependency_is(
    make_bus: BusFactory, url: URL, function: Any, monkeypatch: pytest.MonkeyPatch, nature: str
) -> None:
    cleaned: list[int] = []

    def outer(session: Session) -> Iterator[object]:
        yield object()
        cleaned.append(reading_one(bus.engine))

    made = outer_application(monkeypatch)
    made.dependencies["outer"] = outside(outer) if nature == "outside" else outer
    bus = make_bus(made)
    function(lambda handler: None)
    if nature == "outside":
        bus.execute("call_back")
        assert cleaned == [1]
        return
    with pytest.raises(Misuse, match="one connection"):
        bus.execute("call_back")
    assert cleaned == []


def test_in_memory_there_is_none_for_them_either(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Bus(outer_application(monkeypatch), "sqlite://") as bus:
        bus.journal.create()
        monkeypatch.setattr(Outer, "bind", bus.engine, raising=False)
        function(OUTSIDE["a call"])
        with pytest.raises(Misuse, match="one connection"):
            bus.execute("call_back")


def test_an_outside_call_is_no_way_around_for_what_it_calls_back(
    make_bus: BusFactory, url: URL, function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An action that runs inside one is a handler's again."""
    bus = make_bus(outer_application(monkeypatch))
    monkeypatch.setattr(Outer, "call", lambda outer, do: do(), raising=False)
    depth: list[int] = []

    def run(handler: Any) -> None:
        if depth:
            transaction_of(bus.engine, handler)
        depth.append(1)
        handler.outer.call(lambda: handler.runner.execute("call_back"))

    function(run)
    with pytest.raises(Misuse, match="outside"):
        bus.execute("call_back")
    assert query(url, "SELECT * FROM accounts") == []
