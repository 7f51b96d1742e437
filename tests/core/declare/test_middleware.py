"""Middleware sees every action in one place, may add to its transaction, and its errors are the action's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from actionbus import ActionCall, InvalidArguments, Middleware, Misuse, UnknownAction
from tests.conftest import BusFactory
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application

R = TypeVar("R")


class Noted(Middleware):
    """Notes what passes."""

    def __init__(self, name: str, told: list[Any]) -> None:
        self.name, self.told = name, told

    def around_call(self, call: ActionCall, proceed: Callable[[], R]) -> R:
        self.told.append((self.name, "before", call.action, call.mode))
        try:
            result = proceed()
        except Exception as error:
            self.told.append((self.name, "raised", call.action, type(error).__name__))
            raise
        self.told.append((self.name, "after", call.action, getattr(result, "status", None)))
        return result


class Tenancy(Middleware):
    """Writes a row of its own into each action's transaction."""

    def around_execution(self, call: ActionCall, session: Session, proceed: Callable[[], None]) -> None:
        session.execute(
            text("INSERT INTO accounts (id, name, balance) VALUES (1000, :name, 0)"), {"name": call.context["tenant"]}
        )
        proceed()


def accounts(bus: Any) -> list[int]:
    with bus.engine.connect() as connection:
        return list(connection.execute(text("SELECT id FROM accounts ORDER BY id")).scalars())


def test_around_every_call_in_order(make_bus: BusFactory) -> None:
    told: list[Any] = []
    inner = Noted("inner", told)
    bus = make_bus(make_application(middleware=[inner]), middleware=[Noted("outer", told)])
    bus.execute("open_account", {"id": 1, "name": "a"}, actor="ana")
    assert told == [
        ("outer", "before", "open_account", "execute"),
        ("inner", "before", "open_account", "execute"),
        ("inner", "after", "open_account", "succeeded"),
        ("outer", "after", "open_account", "succeeded"),
    ]


def test_it_sees_refusals_unknown_names_and_nested_actions(make_bus: BusFactory) -> None:
    told: list[Any] = []
    bus = make_bus(middleware=[Noted("m", told)])
    with pytest.raises(InvalidArguments):
        bus.execute("open_account", {}, actor="ana")
    with pytest.raises(UnknownAction):
        bus.execute("nothing", {}, actor="ana")
    for number in (1, 2):
        bus.execute("open_account", {"id": number, "name": str(number)}, actor="ana")
    bus.execute("deposit", {"id": 1, "amount": 5}, actor="ana")
    told.clear()
    bus.execute("transfer", {"source": 1, "target": 2, "amount": 1}, actor="ana")
    assert [each[1:3] for each in told] == [
        ("before", "transfer"),
        ("before", "withdraw"),
        ("after", "withdraw"),
        ("before", "deposit"),
        ("after", "deposit"),
        ("after", "transfer"),
    ]


def test_inside_the_transaction(make_bus: BusFactory) -> None:
    bus = make_bus(make_application(middleware=[Tenancy()]))
    runner = bus.runner("ana", context={"tenant": "t"})
    runner.execute("open_account", {"id": 1, "name": "a"})
    assert accounts(bus) == [1, 1000]
    with pytest.raises(Exception, match=r"(?i)unique"):
        runner.execute("open_account", {"id": 2, "name": "b"})
    assert accounts(bus) == [1, 1000], "its failure rolls the action back"


def test_what_it_raises_inside_is_the_actions_failure(make_bus: BusFactory) -> None:
    class Closed(Middleware):
        def around_execution(self, call: ActionCall, session: Session, proceed: Callable[[], None]) -> None:
            raise RuntimeError("closed for today")

    bus = make_bus(middleware=[Closed()])
    with pytest.raises(RuntimeError, match="closed for today"):
        bus.execute("open_account", {"id": 1, "name": "a"}, actor="ana")
    assert [record.status for record in bus.journal.read(kind="outcome")] == ["failed"]


def swallowing(proceed: Callable[[], R]) -> R | None:
    try:
        return proceed()
    except Exception:
        return None


UNRULY: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "returned without calling proceed()": lambda proceed: None,
    "called proceed() a second time": lambda proceed: (proceed(), proceed())[1],
    "kept to itself what proceed() raised: ValueError: no": swallowing,
    "returned None instead of what proceed() returns": lambda proceed: (proceed(), None)[1],
}


@pytest.mark.parametrize("told", UNRULY)
@pytest.mark.parametrize("method", ["around_call", "around_execution"])
def test_what_middleware_makes_of_proceed_is_checked_by_name(
    make_sqlite_bus: BusFactory, method: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unruly(Middleware):
        pass

    runs: list[int] = []

    def run(handler: Any) -> None:
        runs.append(1)
        if "ValueError" in told:
            raise ValueError("no")

    monkeypatch.setattr(Unruly, method, lambda self, *given: UNRULY[told](given[-1]))
    monkeypatch.setattr(CallBack, "function", run)
    bus = make_sqlite_bus(middleware=[Unruly()])
    if method == "around_execution" and "None" in told:
        assert bus.execute("call_back").status == "succeeded"  # there is nothing to be returned
        return
    with pytest.raises(Misuse, match=re.escape(f"Unruly.{method}() {told}")) as caught:
        bus.execute("call_back")
    assert len(runs) == ("without" not in told)
    if method == "around_execution":
        record = bus.journal.tail(1)[0]
        assert (record.status, (record.error or {})["message"]) == ("failed", str(caught.value))
