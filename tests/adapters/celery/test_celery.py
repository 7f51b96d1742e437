"""Queued actions through Celery and a real Redis, run by real worker processes that are killed."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy.engine import URL

from actionbus import BrokerUnavailable, Bus, Message
from actionbus.adapters.celery import CeleryBroker, make_celery
from tests.adapters.celery.workers import Workers
from tests.conftest import TORTURE, prepared, query
from tests.servers import Redis
from tests.shop.app import make_application
from tests.waiting import PATIENCE_S, eventually

ACTIONS = 2000 if TORTURE else 100
BACKLOG = 20
"""More are not queued, so that workers have something to do, and do it, when they are killed."""


@pytest.fixture
def workers(url: URL, redis: Redis, tmp_path: Path) -> Iterator[Workers]:
    prepared(url)
    found = Workers(url, redis, tmp_path / "worker.log")
    yield found
    found.close()


@pytest.fixture
def bus(workers: Workers, url: URL, redis: Redis) -> Iterator[Bus]:
    with Bus(make_application(), url, broker=CeleryBroker(redis.url, redeliver_after=2)) as found:
        found.execute("open_account", {"id": 1, "name": "one"}, actor="ana")
        yield found


def test_from_queue_to_outcome(bus: Bus, workers: Workers) -> None:
    worker = workers.start()
    runner = bus.runner("ana", correlation_id="c-1", context={"traceparent": "00-1", "tenant": "x"})
    ticket = runner.execute_async("deposit", {"id": 1, "amount": 5})
    assert ticket.wait(PATIENCE_S).result == {"balance": 5}
    later = runner.execute_async("deposit", {"id": 1, "amount": 1}, countdown=1.5)
    outcome = later.wait(PATIENCE_S)
    assert outcome.result == {"balance": 6}
    record = bus.journal.get(outcome.action_id)
    assert record is not None
    assert record.started_at is not None
    assert record.started_at >= later.due_at
    refused = runner.execute_async("withdraw", {"id": 1, "amount": 100})
    with pytest.raises(Exception, match="below zero"):
        refused.wait(PATIENCE_S)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0


def test_sigterm_lets_a_running_action_end(bus: Bus, workers: Workers, tmp_path: Path) -> None:
    worker = workers.start()
    may_end = tmp_path / "may.end"
    ticket = bus.runner("ana").execute_async("hold", {"file": str(may_end)})
    eventually(may_end.with_suffix(".begun").exists, workers.told)
    assert ticket.state == "running"
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in workers.told(), workers.told)
    assert worker.poll() is None
    may_end.touch()
    assert worker.wait(PATIENCE_S) == 0
    assert ticket.wait(0).status == "succeeded"


def test_each_queue_has_its_own_workers(bus: Bus, workers: Workers, tmp_path: Path) -> None:
    workers.start("--queue", "slow")
    other = bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1})
    (tmp_path / "may.end").touch()
    slow = bus.runner("ana").execute_async("hold", {"file": str(tmp_path / "may.end")})
    assert slow.wait(PATIENCE_S).status == "succeeded"
    assert other.state == "due"


@pytest.mark.early
@pytest.mark.slow
@pytest.mark.timeout(3600 if TORTURE else 600)
def test_killed_workers_and_a_broker_that_forgets(bus: Bus, workers: Workers, redis: Redis, url: URL) -> None:
    """Every action has one outcome and took effect once, whoever died in between."""
    for _ in range(2):
        workers.start()
    runner = bus.runner("ana")
    kills, restarts = (60, 6) if TORTURE else (2, 1)
    events = sorted(random.sample(range(1, ACTIONS), kills))
    broker_dies = set(random.sample(range(1, ACTIONS), restarts))
    tickets = []
    for number in range(ACTIONS):
        if number in broker_dies:
            redis.kill()
        tickets.append(runner.execute_async("deposit", {"id": 1, "amount": 1}))
        if number in broker_dies:
            redis.start()
        if number in events:
            workers.kill_one()
        eventually(lambda: sum(bus.runs.counts().values()) < BACKLOG, workers.told, patience=400)
    eventually(lambda: sum(bus.runs.counts().values()) == 0, workers.told, patience=400)
    statuses = Counter(record.status for record in bus.journal.read(kind="outcome", action="deposit"))
    assert statuses == {"succeeded": ACTIONS}
    assert query(url, "SELECT balance FROM accounts WHERE id = 1") == [(ACTIONS,)]
    assert query(url, "SELECT count(*) FROM entries") == [(ACTIONS,)]


def test_a_broker_that_is_away_is_asked_once_and_callers_do_not_wait_for_it_one_by_one(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actionbus.adapters.celery._AWAY_S", 3600.0)
    prepared(url)
    with Bus(make_application(), url, broker=CeleryBroker("redis://127.0.0.1:1/0")) as bus:
        bus.execute("open_account", {"id": 1, "name": "one"}, actor="ana")
        tickets = [bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1}) for _ in range(20)]
        told = [ticket.problem or "" for ticket in tickets]
        assert told[0].startswith("the broker did not take the message")
        assert told[1:] == ["the broker did not answer a moment ago"] * 19
        assert bus.runs.counts()["due"] == 20


def test_forged_messages_do_nothing(bus: Bus, workers: Workers, redis: Redis) -> None:
    """Who can write to the broker can make workers run what is queued, and nothing else."""
    workers.start()
    app = make_celery(redis.url)
    for forged in ({"action_id": "../etc"}, {"action_id": None}, {}, {"action_id": [1], "x": 1}):
        app.send_task("actionbus.run", kwargs=forged, queue="actions")
    app.send_task("os.system", args=["true"], queue="actions")
    app.send_task(
        "actionbus.run",
        kwargs={"action_id": "00000000-0000-4000-8000-000000000000", "action": "deposit", "arguments": {"id": 1}},
        queue="actions",
    )
    before = len(list(bus.journal.read()))
    assert bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1}).wait(PATIENCE_S).result == {"balance": 1}
    assert len(list(bus.journal.read())) == before + 2


def test_an_unknown_broker_says_so() -> None:
    with pytest.raises(BrokerUnavailable, match="did not take"):
        queue = CeleryBroker("amqp://guest@127.0.0.1:1//")
        queue.publish(Message(uuid4(), "a", "q"))
