"""Who makes a postponed call: on whatever pool, in whatever order processes come and go, and never who does not know it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool, StaticPool

from actionbus import ActionCall, Bus, Middleware
from actionbus.core.queueing.worker import Worker
from tests.conftest import BusFactory, prepared
from tests.core.after_commit.till import Till, application
from tests.helpers import let_time_pass
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application


@pytest.fixture(autouse=True)
def charging(till: type[Till], monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler charges and uses the database."""

    def charge(handler: Any) -> Any:
        handler.session.connection()
        return handler.mailer.charge(handler.args.n).action_id

    monkeypatch.setattr(CallBack, "function", charge)


def test_with_a_pool_of_one(url: URL, till: type[Till]) -> None:
    prepared(url)
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=2)
    with Bus(application(), engine) as bus:
        bus.execute("call_back", {"n": 4})
        bus.execute("call_back", {"n": 5})
        bus.runner().execute_many([("call_back", {"n": 6})])
    engine.dispose()
    assert till.amounts() == [4, 5, 6]


def test_in_memory(till: type[Till]) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    with Bus(application(), engine) as bus:
        bus.create()
        bus.execute("call_back", {"n": 4})
    assert till.amounts() == [4]


def test_who_does_not_know_the_dependency_leaves_its_calls_to_others(
    queueing: Bus, make_bus: BusFactory, till: type[Till]
) -> None:
    made = queueing.execute("call_back", {"n": 4}).result
    Worker(make_bus(make_application())).run_due()
    run = queueing.runs.get(made)
    assert run is not None
    assert run.attempts == 0
    assert "does not know the action" in str(run.problem)
    let_time_pass(queueing, 4000)
    Worker(queueing).run_due()
    assert till.amounts() == [4]


def test_a_claim_that_is_lost_is_no_error_of_the_action(
    bus: Bus, till: type[Till], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The database goes away just after the commit: the action has succeeded, and the call is made by who comes next."""

    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("the database is away")

    with monkeypatch.context() as patched, caplog.at_level(logging.INFO):
        patched.setattr(bus.services.runs, "get", away)
        assert bus.execute("call_back", {"n": 4}).status == "succeeded"
    assert "the database is away" in caplog.text
    assert till.asked == []
    Worker(bus).run_due()
    assert till.amounts() == [4]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_of_the_call_reaches_who_waits_and_the_call_is_made_again(
    bus: Bus, till: type[Till], error: type[BaseException]
) -> None:
    till.trouble = [error()]
    with pytest.raises(error):
        bus.execute("call_back", {"n": 4})
    [outcome] = bus.journal.read(action="call_back", kind="outcome")
    assert outcome.status == "succeeded"
    let_time_pass(bus, 4000)
    Worker(bus).run_due()
    assert till.amounts() == [4]
    assert len(set(till.asked)) == 1


class Seen(Middleware):
    """Notes what it is around."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.inside = 0

    def around_call(self, call: ActionCall, proceed: Callable[[], Any]) -> Any:
        """Note it, with how deep it is."""
        self.calls.append((call.action, "inside" if self.inside else "alone"))
        self.inside += 1
        try:
            return proceed()
        finally:
            self.inside -= 1


def test_middleware_is_around_each_by_itself(make_bus: BusFactory, till: type[Till]) -> None:
    """The call is no part of the action that postponed it, nor of the time that this took."""
    seen = Seen()
    bus = make_bus(application(), middleware=[seen])
    bus.execute("call_back", {"n": 4})
    bus.runner().execute_many([("call_back", {"n": 5})])
    alone = [name for name, where in seen.calls if where == "alone"]
    assert alone == ["call_back", "perform_mailer"] * 2
    assert till.amounts() == [4, 5]
