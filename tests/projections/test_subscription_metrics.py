"""Metrics of subscriptions and of pauses say what `status` says, and count what was handed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.engine import URL

from actionbus import Application, Bus, Record
from actionbus.adapters import database
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.metrics import collectors_of
from actionbus.projections import ProjectionStopped, Projector, Subscription, Subscriptions
from actionbus.projections import delivery as delivering
from actionbus.projections.counters import DELIVERIES, OF_SUBSCRIPTIONS


class Tallied(Subscription):
    """Refuses poison, as often as it is told."""

    actions = ("put_note",)
    refuses: ClassVar[int] = 0

    def handle(self, records: Sequence[Record]) -> None:
        """Maybe."""
        if any(record.arguments["text"] == "poison" for record in records) and type(self).refuses:
            type(self).refuses -= 1
            raise RuntimeError("not now")


@pytest.fixture
def bus(sqlite_url: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    monkeypatch.setattr("actionbus.projections.working.FIRST_BACKOFF_S", 0.001)
    application = Application("notes", actions=["tests.projections.notes.actions"], subscriptions=[Tallied])
    with Bus(application, sqlite_url) as made:
        database.upgrade(made.engine)
        yield made


def catch_up(bus: Bus) -> None:
    Projector(bus, EmbeddedStore(bus.engine)).catch_up()


def told(bus: Bus) -> dict[str, float]:
    """Samples of the metrics by name, with the labels of a state after it."""
    registry = CollectorRegistry()
    for collector in collectors_of(bus, None):
        registry.register(collector)
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            more = [sample.labels[name] for name in ("state", "reason") if name in sample.labels]
            found[" ".join([sample.name.removeprefix("actionbus_").removeprefix("subscription_"), *more]).strip()] = (
                sample.value
            )
    return found


def counted() -> dict[str, float]:
    return DELIVERIES.of("tallied")


def test_they_say_where_it_is_and_what_was_handed_over(bus: Bus) -> None:
    before = counted()
    assert told(bus)["state new"] == 1.0
    for _ in range(3):
        last = bus.execute("put_note", {"note": "n", "text": "text"}).position
    behind = told(bus)
    assert (behind["position"], behind["lag_positions"]) == (0.0, float(last))
    assert behind["lag_seconds"] > 0
    catch_up(bus)
    found = told(bus)
    assert (found["position"], found["lag_positions"], found["healthy"]) == (float(last), 0.0, 0.0)
    assert found["state idle unfed"] == 1.0
    assert counted()["records"] == before["records"] + 3
    assert found["records_total"] == counted()["records"]


def test_they_count_failures_and_what_is_tried_again(bus: Bus) -> None:
    before = counted()
    bus.execute("put_note", {"note": "n", "text": "poison"})
    Tallied.refuses = 2
    catch_up(bus)
    after = counted()
    assert {name: after[name] - before[name] for name in OF_SUBSCRIPTIONS} == {
        "records": 1.0,
        "failures": 2.0,
        "retries": 2.0,
    }


def test_one_that_stopped_says_by_what(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "ATTEMPTS", 1)
    bus.execute("put_note", {"note": "n", "text": "poison"})
    Tallied.refuses = 9
    with pytest.raises(ProjectionStopped):
        catch_up(bus)
    found = told(bus)
    assert (found["state stopped record"], found["healthy"]) == (1.0, 0.0)


def test_what_is_paused_is_told_with_its_time(bus: Bus) -> None:
    assert "paused_since_seconds" not in told(bus)
    Subscriptions(bus).pause("tallied", actor="ana", reason="a move")
    found = told(bus)
    assert found["paused_since_seconds"] > 1e9
    assert found["state paused"] == 1.0
    Subscriptions(bus).resume("tallied", actor="ana")
    assert "paused_since_seconds" not in told(bus)
