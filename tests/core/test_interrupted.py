"""What recovery says of an action that was cut off, and of those it did not look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from actionbus import ActionInterrupted
from tests.conftest import BusFactory
from tests.core.queues import Broker
from tests.core.test_journal import abandon


def test_it_does_not_claim_that_nothing_happened_outside(make_bus: BusFactory) -> None:
    bus = make_bus()
    action_id = abandon(bus, idempotency_key="k", action="call_back", arguments={}, actor="ana")
    assert bus.recover(timedelta(0)).interrupted == [action_id]
    outcome = bus.journal.outcome(action_id)
    assert outcome is not None
    assert outcome.error is not None
    with pytest.raises(ActionInterrupted) as repeated:
        bus.execute("call_back", {}, actor="ana", idempotency_key="k")
    for told in (outcome.error["message"], str(repeated.value)):
        assert "calls to the outside" in told
        assert "in the database" in told


def test_those_too_young_to_be_settled_are_told(make_bus: BusFactory) -> None:
    bus = make_bus(queue=Broker())
    action_id = abandon(bus, recorded_at=datetime.now(UTC))
    bus.execute("call_back", {}, actor="ana")
    queued = bus.runner("ana").execute_async("call_back", {})
    young = bus.recover(timedelta(minutes=1))
    assert (young.too_young, young.interrupted, young.running, young.queued) == ([action_id], [], [], [])
    assert bus.run_queued(queued.action_id), "its lock was left alone"
    old = bus.recover(timedelta(0))
    assert (old.too_young, old.interrupted) == ([], [action_id])
