"""Actions with `every`: each tick once, whoever is there to queue it; what was missed is on record."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Bus, PermissionDenied, pure
from actionbus.core.declare.queue import Schedule
from actionbus.core.queueing import schedules
from actionbus.core.queueing.operating import operate
from actionbus.core.queueing.schedules import SCHEDULER, Schedules, due_since
from actionbus.core.queueing.worker import Worker
from actionbus.core.storage.queue_state import LEASE_S, Queues
from actionbus.core.values.caller import Caller
from tests.core.queueing.steps import Make, make, rows
from tests.queued.app import make_application

__all__ = ["make"]


def minutes_pass(bus: Bus, minutes: float) -> None:
    """As if the schedule had been looked at so long ago."""
    with bus.engine.begin() as connection:
        earlier = "ticked_at = ticked_at - :s, leased_until = leased_until - :s"
        connection.execute(text(f"UPDATE actionbus_ticks SET {earlier}"), {"s": minutes * 60})


def begun(make: Make, **options: Any) -> Bus:
    """A bus whose schedule was seen two minutes ago."""
    bus = make(make_application(**options))
    assert Schedules(bus.services).turn() == [], "a schedule begins when it is seen first"
    minutes_pass(bus, 1)
    return bus


def ticks(bus: Bus) -> list[Any]:
    return [record.result for record in bus.journal.read(kind="outcome", action="queue_tick", status="succeeded")]


def test_a_tick_is_queued_once_and_told(make: Make) -> None:
    bus = begun(make)
    [queued] = Schedules(bus.services).turn()
    assert Schedules(bus.services).turn() == []
    assert Worker(bus).run_due() == 1
    [told] = ticks(bus)
    assert (told["action"], told["queued"], told["missed"]) == ("strike", str(queued), 0)
    tick = datetime.fromisoformat(told["tick"])
    assert rows(bus, "SELECT number FROM steps") == [(int(tick.timestamp() // 60),)]
    record = bus.journal.submitted(queued)
    assert record is not None
    assert record.actor == SCHEDULER
    assert datetime.fromisoformat(record.arguments["tick"]) == tick, "an argument called tick is given the time"


def test_ticks_that_nobody_queued_are_counted_and_the_latest_is_queued_late(make: Make) -> None:
    bus = begun(make)
    minutes_pass(bus, 10)
    assert len(Schedules(bus.services).turn()) == 1
    [told] = ticks(bus)
    assert told["missed"] == 10
    since, tick = datetime.fromisoformat(told["missed_since"]), datetime.fromisoformat(told["tick"])
    assert tick - since == timedelta(minutes=10)
    assert Schedules(bus.services).turn() == []


def test_of_many_schedulers_at_once_one_queues(make: Make) -> None:
    bus = begun(make)
    buses = [make() for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        queued = [each for found in threads.map(lambda b: Schedules(b.services).turn(), buses) for each in found]
    assert len(queued) == 1
    assert [run.action_id for run in bus.runs.all()] == queued


def test_a_scheduler_that_dies_with_a_lease_loses_no_tick(make: Make) -> None:
    bus = begun(make)
    queues = Queues(bus.backend)
    before, _ = queues.tick_of("strike", "* * * * *")
    assert queues.lease("strike", "* * * * *", before), "and there it died"
    assert Schedules(bus.services).turn() == []
    with bus.engine.begin() as connection:
        connection.execute(text("UPDATE actionbus_ticks SET leased_until = leased_until - :s"), {"s": LEASE_S})
    assert len(Schedules(bus.services).turn()) == 1


def test_two_that_both_hold_the_lease_queue_one_tick(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """One so slow that its lease went to another: the row has moved on, and its action is rejected."""
    bus = begun(make)
    seen: list[Any] = []

    def slow(services: Any, caller: Caller, name: str, told: Any) -> Any:
        monkeypatch.setattr(schedules, "operate", operate)
        with bus.engine.begin() as connection:
            connection.execute(text("UPDATE actionbus_ticks SET leased_until = 0"))
        seen.extend(Schedules(bus.services).turn())
        return operate(services, caller, name, told)

    monkeypatch.setattr(schedules, "operate", slow)
    assert Schedules(bus.services).turn() == []
    assert len(seen) == 1
    [refused] = bus.journal.read(kind="outcome", action="queue_tick", status="rejected")
    assert refused.error is not None
    assert "was queued by another scheduler" in refused.error["message"]
    assert len(bus.runs.all()) == 1


class Strict:
    """Refuses the scheduler."""

    def require(self, permission: str, arguments: Any) -> None:
        raise PermissionDenied("not by itself")


def test_what_is_refused_is_told_and_the_schedule_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.queued.actions.strike import Strike

    monkeypatch.setattr(Strike, "permission", "strike")
    bus = begun(make, dependencies={"checkpoint": pure(Strict)})
    assert Schedules(bus.services).turn() == []
    assert "not by itself" in ticks(bus)[0]["refused"]
    assert [r.status for r in bus.journal.read(kind="outcome", action="strike")] == ["denied"]
    assert Schedules(bus.services).turn() == [], "not again for the same tick"
    assert len(ticks(bus)) == 1


def test_the_machines_clock_does_not_matter(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    bus = make(make_application())
    scheduler = Schedules(bus.services)
    assert scheduler.turn() == []
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 86_400)
    assert scheduler.turn() == []


BERLIN = "30 2 * * * Europe/Berlin"


@pytest.mark.parametrize(
    ("every", "after", "upto", "expected", "missed"),
    [
        ("0 * * * *", "2026-11-30T01:10", "2026-11-30T01:59", None, 0),
        ("0 * * * *", "2026-11-30T01:00", "2026-11-30T02:00", "2026-11-30T02:00", 0),
        ("0 * * * *", "2026-11-30T01:10", "2026-11-30T05:30", "2026-11-30T05:00", 3),
        ("0 9 * * * Europe/Berlin", "2026-11-30T00:00", "2026-11-30T10:00", "2026-11-30T08:00", 0),
        (BERLIN, "2026-03-28T12:00", "2026-03-29T12:00", "2026-03-29T01:00", 0),  # 2:30 is not there on this day
        (BERLIN, "2026-10-24T12:00", "2026-10-25T12:00", "2026-10-25T00:30", 0),  # and comes twice on this one
    ],
)
def test_ticks(every: str, after: str, upto: str, expected: str | None, missed: int) -> None:
    def moment(told: str) -> datetime:
        return datetime.fromisoformat(told).replace(tzinfo=UTC)

    due = due_since(Schedule(every), moment(after), moment(upto))
    assert (due.tick, due.missed) == (moment(expected), missed) if expected and due else due is None
