"""A message that comes early, twice or forged runs nothing before its time; whose clock is right does not matter."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from actionbus import Bus, Dispatcher
from tests.core.queues import Broker, lost_database, time_passes
from tests.shop.actions.call_back import CallBack


def later(bus: Bus) -> Any:
    """Queued for later."""
    return bus.runner("ana").execute_async("call_back", {}, countdown=600).action_id


def later_from_inside(bus: Bus) -> Any:
    """Queued for later by a handler."""
    queued: list[Any] = []

    def queue_one(handler: Any) -> None:
        queued.append(handler.runner.execute_async("open_account", {"id": 1, "name": "one"}, countdown=600))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CallBack, "function", queue_one)
        bus.execute("call_back", {}, actor="ana")
    return queued[0].action_id


def between_attempts(bus: Bus) -> Any:
    """Handed back by an attempt that came to no end."""
    ticket = bus.runner("ana").execute_async("call_back", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CallBack, "function", lost_database)
        assert bus.run_queued(ticket.action_id) is None
    return ticket.action_id


@pytest.mark.parametrize("waiting", [later, later_from_inside, between_attempts])
def test_a_message_before_its_time_runs_nothing(bus: Bus, queue: Broker, waiting: Callable[[Bus], Any]) -> None:
    action_id = waiting(bus)
    before = bus.runs.get(action_id)
    assert before is not None
    assert before.state == "queued"
    for _ in range(3):
        assert bus.run_queued(action_id, "forged") is None
    assert bus.runs.get(action_id) == before, "nor does it count as an attempt, or put off what waits"
    assert bus.journal.outcome(action_id) is None
    assert Dispatcher(bus).send() == []
    assert Dispatcher(bus).send(lost=True) == []
    time_passes(bus)
    assert Dispatcher(bus).send() == [action_id]
    outcome = bus.run_queued(action_id)
    assert outcome is not None
    assert outcome.status == "succeeded"
    assert bus.run_queued(action_id) is None


def test_a_forged_message_leaves_what_is_not_queued_alone(bus: Bus) -> None:
    done = bus.execute("call_back", {}, actor="ana").action_id
    running: list[Any] = []
    records = len(list(bus.journal.read()))
    for action_id in (done, uuid4()):
        running.append(bus.run_queued(action_id, "forged"))
    assert running == [None, None]
    assert len(list(bus.journal.read())) == records


@pytest.mark.parametrize(
    "when", [{"countdown": "5"}, {"countdown": True}, {"countdown": timedelta(5)}, {"eta": "tomorrow"}, {"eta": 7}]
)
def test_what_is_no_time_is_refused_with_what_came(bus: Bus, when: dict[str, Any]) -> None:
    runner = bus.runner("ana", operator=True)
    [given] = when.values()
    with pytest.raises(ValueError, match=f"must be .*, not {re.escape(repr(given))}"):
        runner.execute_async("call_back", {}, **when)
    if "eta" in when:
        with pytest.raises(ValueError, match=f"must be a datetime .*, not {re.escape(repr(given))}"):
            runner.reschedule(uuid4(), given)
    assert list(bus.journal.read()) == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_process_whose_clock_is_wrong_queues_what_is_due_at_once(
    bus: Bus, queue: Broker, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 3600 * hours)
    ticket = bus.runner("ana").execute_async("call_back", {})
    monkeypatch.setattr(time, "time", right)
    assert [message.action_id for message in queue.messages] == [ticket.action_id]
    assert Dispatcher(bus).send() == [], "its message is on its way"
    outcome = bus.run_queued(ticket.action_id)
    assert outcome is not None
    assert outcome.status == "succeeded"


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_worker_whose_clock_is_wrong_runs_what_is_due(bus: Bus, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    ticket = bus.runner("ana").execute_async("call_back", {})
    waiting = bus.runner("ana").execute_async("call_back", {}, countdown=600)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 3600 * hours)
    assert bus.runs.counts() == {"queued": 1, "due": 1, "running": 0}
    assert bus.run_queued(waiting.action_id) is None
    assert bus.run_queued(ticket.action_id) is not None
