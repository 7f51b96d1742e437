"""Recovery gives an outcome to what was cut off, once, and never to what still runs; it says what it did not look at."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import ActionFailed, ActionInProgress, ActionInterrupted, Bus, IdempotencyConflict, InvalidArguments
from tests.conftest import BusFactory, elsewhere
from tests.core.queues import Broker
from tests.helpers import abandon, balance, opened
from tests.shop.actions.call_back import CallBack
from tests.waiting import PATIENCE_S


def test_recovery_settles_what_was_abandoned_once(bus: Bus) -> None:
    action_id = abandon(bus)
    assert bus.recover(timedelta(minutes=1)).interrupted == [action_id]
    assert bus.recover(timedelta(minutes=1)).interrupted == []
    record = bus.journal.get(action_id)
    assert record
    assert record.status == "interrupted"


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("call_back", "it may have called mailer, of which nothing is on record, and so may actions that it ran"),
        ("deposit", "it declares nothing that reaches outside"),
        ("of_another_release", "calls to the outside may have been made, and are not on record"),
    ],
)
def test_what_was_cut_off_says_what_it_may_have_called(make_bus: BusFactory, action: str, told: str) -> None:
    bus = make_bus()
    abandon(bus, action=action, idempotency_key="k", arguments={})
    bus.recover(timedelta(0))
    error = bus.journal.tail(1)[0].error
    assert error is not None
    assert error["message"].endswith(f"nothing of it took effect in the database; {told}")
    with pytest.raises(ActionInterrupted, match=told):
        bus.execute(action, {}, idempotency_key="k")


def test_recovery_leaves_the_young_alone(bus: Bus) -> None:
    abandon(bus, recorded_at=datetime.now(UTC))
    assert bus.recover(timedelta(minutes=1)).interrupted == []


def test_a_key_of_an_interrupted_action_says_so(bus: Bus) -> None:
    abandon(bus, idempotency_key="k", arguments={"id": 1})
    with pytest.raises(ActionInProgress):
        bus.execute("deposit", {"id": 1}, idempotency_key="k")
    bus.recover(timedelta(0))
    with pytest.raises(ActionInterrupted):
        bus.execute("deposit", {"id": 1}, idempotency_key="k")


def test_recovery_never_aborts_what_still_runs(make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, other = make_bus(), make_bus()
    started, go_on = threading.Event(), threading.Event()

    def wait(handler: Any) -> str:
        started.set()
        assert go_on.wait(PATIENCE_S)
        return "done"

    monkeypatch.setattr(CallBack, "function", wait)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(bus.execute, "call_back", {})
        assert started.wait(PATIENCE_S)
        found = other.recover(timedelta(0))
        assert (len(found.running), found.interrupted) == (1, [])
        go_on.set()
        assert running.result().result == "done"
    assert other.recover(timedelta(0)).running == []


def test_no_lock_outlives_its_action(make_postgres_bus: BusFactory) -> None:
    bus = opened(make_postgres_bus(), 1)
    for arguments in ({"id": 1}, {"id": "x"}, {"id": 99}):
        try:
            bus.execute("deposit", arguments, idempotency_key=f"k{arguments}")
        except InvalidArguments:
            pass
    with pytest.raises(LookupError):
        bus.execute("withdraw", {"id": 5, "amount": 1}, idempotency_key="k")
    with pytest.raises(ActionFailed):
        bus.execute("withdraw", {"id": 5, "amount": 1}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        bus.execute("withdraw", {"id": 5, "amount": 2}, idempotency_key="k")
    with bus.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).scalar() == 0


def test_an_outcome_written_by_somebody_else_is_the_answer(
    make_postgres_bus: BusFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a recovery that ignored the lock could give an action two outcomes, or half an effect."""
    bus, other = make_postgres_bus(), make_postgres_bus()
    opened(bus, 1)

    def be_recovered(handler: Any) -> None:
        handler.session.execute(text("UPDATE accounts SET balance = 77"))
        assert len(elsewhere(lambda: other.recover(timedelta(0))).interrupted) == 1

    monkeypatch.setattr(type(other.backend), "claim", lambda *_: True)
    monkeypatch.setattr(CallBack, "function", be_recovered)
    with pytest.raises(ActionInterrupted):
        bus.execute("call_back")
    assert bus.journal.tail(1)[0].status == "interrupted"
    assert balance(bus, 1) == 0


def test_those_too_young_to_be_settled_are_told(make_bus: BusFactory) -> None:
    bus = make_bus(broker=Broker())
    action_id = abandon(bus, recorded_at=datetime.now(UTC))
    bus.execute("call_back", {}, actor="ana")
    queued = bus.runner("ana").execute_async("call_back", {})
    young = bus.recover(timedelta(minutes=1))
    assert (young.too_young, young.interrupted, young.running, young.queued) == ([action_id], [], [], [])
    assert bus.run_queued(queued.action_id), "its lock was left alone"
    old = bus.recover(timedelta(0))
    assert (old.too_young, old.interrupted) == ([], [action_id])
