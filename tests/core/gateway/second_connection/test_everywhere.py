"""A second connection is refused wherever an application's code runs inside an action, and a handler reads no journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus import ActionCall, Application, Arg, Bus, Middleware, Misuse
from tests.conftest import BusFactory, query
from tests.core.gateway.second_connection.ways import transaction_of
from tests.core.queues import Broker
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application


class Asked:
    """Does what a test says, at the place that it says."""

    def __init__(self) -> None:
        self.place, self.do = "", lambda: None

    def at(self, place: str) -> None:
        if place == self.place:
            self.do()


class Inside(Middleware):
    """Around the handler."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def around_execution(self, call: ActionCall, session: Session, proceed: Callable[[], None]) -> None:
        self.asked.at("middleware")
        proceed()


PLACES = ["validate", "execute", "provider", "checkpoint", "middleware", "argument", "nested", "serializer"]


def application(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> Application:
    class Serializer:
        def dump(self, value: Any) -> Any:
            asked.at("serializer")
            return value

    class Checkpoint:
        def require(self, permission: str, arguments: Any) -> None:
            asked.at("checkpoint")

    def repo(session: Session) -> object:
        asked.at("provider")
        return object()

    def checkpoint(session: Session) -> Checkpoint:
        return Checkpoint()

    def run(handler: Any) -> None:
        asked.at("execute")
        if asked.place == "nested":
            asked.place = "execute"
            handler.runner.execute("call_back")

    monkeypatch.setattr(CallBack, "function", run)
    monkeypatch.setattr(CallBack, "requires", ("session", "runner", "mailer", "repo"))
    monkeypatch.setattr(CallBack, "permission", "accounts:write")
    monkeypatch.setattr(CallBack, "arguments", {"n": Arg(int, default=0, validator=lambda n: asked.at("argument"))})
    monkeypatch.setattr(CallBack, "validate", lambda handler: asked.at("validate"))
    made = make_application()
    made.dependencies |= {"repo": repo, "checkpoint": checkpoint, "serializer": lambda actor: Serializer()}
    made.middleware = (Inside(asked),)
    return made


@pytest.mark.parametrize("place", PLACES)
def test_it_is_refused_wherever_the_applications_code_runs(
    make_bus: BusFactory, url: URL, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    asked = Asked()
    bus = make_bus(application(asked, monkeypatch), broker=Broker())
    asked.do = lambda: transaction_of(bus.engine, None)
    asked.place = place
    with pytest.raises(Misuse, match="outside"):
        bus.execute("call_back", {"n": 1})
    assert query(url, "SELECT * FROM accounts") == []


@pytest.mark.parametrize("place", ["validate", "provider", "checkpoint"])
def test_it_is_refused_when_an_action_is_queued_or_a_permission_asked(
    make_bus: BusFactory, url: URL, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    asked = Asked()
    bus = make_bus(application(asked, monkeypatch), broker=Broker())
    asked.do = lambda: transaction_of(bus.engine, None)
    asked.place = place
    with pytest.raises(Misuse, match="outside"):
        bus.runner("ann").execute_async("call_back")
    if place == "checkpoint":
        with pytest.raises(Misuse, match="outside"):
            bus.runner("ann").require("accounts:write")
    assert query(url, "SELECT * FROM accounts") == []


def test_a_worker_refuses_it_too(make_bus: BusFactory, url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    bus = make_bus(application(asked, monkeypatch), broker=Broker())
    ticket = bus.runner("ann").execute_async("call_back")
    asked.do, asked.place = lambda: transaction_of(bus.engine, None), "execute"
    with pytest.raises(Misuse, match="outside"):
        bus.run_queued(ticket.action_id)
    assert query(url, "SELECT * FROM accounts") == []


READS: dict[str, Callable[[Bus], Any]] = {
    "read": lambda bus: list(bus.journal.read()),
    "last": lambda bus: bus.journal.last(),
    "tail": lambda bus: bus.journal.tail(1),
    "stats": lambda bus: bus.journal.stats(),
    "identity": lambda bus: bus.journal.identity(),
}


@pytest.mark.parametrize("what", READS)
def test_a_handler_reads_no_journal(bus: Bus, function: Any, what: str) -> None:
    """It would take a second connection, and a replay would have none."""
    function(lambda handler: READS[what](bus))
    with pytest.raises(Misuse, match="outside"):
        bus.execute("call_back")
