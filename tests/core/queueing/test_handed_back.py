"""A worker of another version than what it is asked to run leaves it to one that can: a rolling deploy loses nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from actionbus import Application, Bus, Dispatcher
from tests.conftest import BusFactory
from tests.core.queues import Broker, time_passes
from tests.shop.actions.deposit import Deposit

Change = Callable[[pytest.MonkeyPatch], None]


def older(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Deposit, "version", 1)


def newer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Deposit, "version", 3)


def with_an_upcast(made: Any) -> Change:
    def change(patch: pytest.MonkeyPatch) -> None:
        newer(patch)
        patch.setattr(Deposit, "upcast", classmethod(made))

    return change


def raising(cls: type, arguments: dict[str, Any], version: int) -> dict[str, Any]:
    raise KeyError("amount")


def no_dict(cls: type, arguments: dict[str, Any], version: int) -> Any:
    return None


OTHERS = [
    (older, r"queued for version 2 of its handler, .* has version 1"),
    (newer, r"queued for version 2 of its handler, .* version 3, with no upcast"),
    (with_an_upcast(raising), r"upcast\(\) .* raised KeyError"),
    (with_an_upcast(no_dict), r"upcast\(\) .* not a NoneType"),
]


@pytest.mark.parametrize(("change", "told"), OTHERS)
def test_a_worker_of_another_version_hands_it_back_and_says_so(
    make_bus: BusFactory, queue: Broker, caplog: pytest.LogCaptureFixture, change: Change, told: str
) -> None:
    bus = make_bus(broker=queue)
    bus.execute("open_account", {"id": 1, "name": "one"}, actor="ana")
    ticket = bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 5})
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, "actionbus"):
        change(patch)
        other = Bus(bus.application, bus.engine, broker=queue)
        pauses = _refused_for_a_long_time(other, ticket.action_id)
        run = other.runs.get(ticket.action_id)
    assert run is not None
    assert (run.attempts, run.worker) == (0, None), "no attempt is burnt"
    assert run.problem is not None
    _matches(told, run.problem)
    _matches(told, caplog.text)
    longest = [min(2**number, 64) for number in range(1, len(pauses) + 1)]
    wrong = [each for each, most in zip(pauses, longest, strict=True) if each[1] < most // 2 or each[0] > most]
    assert wrong == [], "asked less and less often, and never in step with who listens"
    assert pauses[0][0] <= 5, "soon, for a worker of the right version may be there already"
    assert bus.journal.outcome(ticket.action_id) is None
    time_passes(bus)
    outcome = bus.run_queued(ticket.action_id)
    assert outcome is not None
    assert outcome.result == {"balance": 5}


def _refused_for_a_long_time(bus: Bus, action_id: Any) -> list[tuple[float, float]]:
    """How long it was left alone each time, at least and at most: a message comes whenever the dispatcher sends one."""
    pauses = []
    for _ in range(30):
        before = _now(bus)
        assert bus.run_queued(action_id, "other") is None
        assert bus.run_queued(action_id, "other") is None, "a message too many does nothing"
        run = bus.runs.get(action_id)
        assert run is not None
        assert run.publish_at == run.due_at
        pauses.append((run.due_at - _now(bus), run.due_at - before))
        assert Dispatcher(bus).send() == []
        time_passes(bus)
        assert Dispatcher(bus).send() == [action_id]
    return pauses


def _now(bus: Bus) -> float:
    wait = bus.runs.next_in()
    run = bus.runs.all()[0]
    assert wait is not None
    return run.publish_at - wait


def _matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


def test_a_worker_that_does_not_know_the_action_hands_it_back(make_bus: BusFactory, queue: Broker) -> None:
    bus = make_bus(broker=queue)
    bus.execute("open_account", {"id": 1, "name": "one"}, actor="ana")
    ticket = bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 5})
    stranger = Bus(Application("stranger", actions=["tests.core.no_actions"]), bus.engine, broker=queue)
    for _ in range(20):
        assert stranger.run_queued(ticket.action_id) is None
        time_passes(bus)
    run = bus.runs.get(ticket.action_id)
    assert run is not None
    assert run.attempts == 0
    assert "does not know the action" in str(run.problem)
    assert bus.run_queued(ticket.action_id)


def test_a_newer_worker_with_an_upcast_runs_it(
    make_bus: BusFactory, queue: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = make_bus(broker=queue)
    bus.execute("open_account", {"id": 1, "name": "one"}, actor="ana")
    ticket = bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 5})
    with_an_upcast(lambda cls, arguments, version: {**arguments, "amount": 7 * version})(monkeypatch)
    outcome = Bus(bus.application, bus.engine, broker=queue).run_queued(ticket.action_id)
    assert outcome is not None
    assert outcome.result == {"balance": 14}


def test_a_message_goes_to_the_queue_that_the_handler_names_now(
    make_bus: BusFactory, queue: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers listen to the queues that their own code names; what was queued for an older one must reach them."""
    bus = make_bus(broker=queue)
    bus.execute("open_account", {"id": 1, "name": "one"}, actor="ana")
    ticket = bus.runner("ana").execute_async("deposit", {"id": 1}, countdown=60)
    time_passes(bus)
    monkeypatch.setattr(Deposit, "queue", "money")
    assert Dispatcher(Bus(bus.application, bus.engine, broker=queue)).send() == [ticket.action_id]
    assert queue.messages[-1].queue == "money"
