"""One contract for both ways to run what is queued, and for both on one table: workers that claim, and Celery's.

Real processes, killed; real databases; a real Redis. What must hold is decision 29: each action has one outcome and
took effect once, keys are in order, every tick is queued once, and what operators say is done, whatever dies.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import ActionFailed, Bus, InvalidArguments
from actionbus.adapters.celery import CeleryBroker
from actionbus.core.storage.queue_state import Queues
from tests.adapters.celery.workers import Workers
from tests.conftest import TORTURE, prepared, query
from tests.queued.app import create_tables, make_application
from tests.servers import Redis
from tests.waiting import PATIENCE_S, eventually

OWN, CELERY, BOTH = "own", "celery", "both"
WAYS = (OWN, CELERY, BOTH)
STEPS, KILLS = (2000, 60) if TORTURE else (60, 3)
TICKS = 40 if TORTURE else 5
TRACKS = [f"track {number}" for number in range(5)]
BACKLOG = 40


class Station:
    """A database, workers of one way or of both, and a bus that queues."""

    def __init__(self, url: URL, redis: Redis | None, way: str, folder: Path) -> None:
        prepared(url)
        self.url, self.way = url, way
        self.bus = Bus(make_application(), url, broker=CeleryBroker(redis.url, redeliver_after=2) if redis else None)
        create_tables(self.bus.engine)
        kinds: list[Redis | None] = {OWN: [None, None], CELERY: [redis, redis], BOTH: [None, redis]}[way]
        self.workers = [
            Workers(url, kind, folder / f"worker-{number}.log", "tests.queued.app:app")
            for number, kind in enumerate(kinds)
        ]

    def start(self) -> None:
        for workers in self.workers:
            workers.start()

    def told(self) -> str:
        return "\n".join(workers.told()[-2500:] for workers in self.workers)

    def until(self, condition: Any, patience: float = PATIENCE_S) -> None:
        eventually(condition, self.told, patience=patience)

    def until_done(self, patience: float = 400) -> None:
        self.until(lambda: sum(self.bus.runs.counts().values()) == 0, patience)

    def close(self) -> None:
        for workers in self.workers:
            workers.close()
        self.bus.close()


@pytest.fixture
def station(url: URL, way: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Station]:
    found = Station(url, None if way == OWN else request.getfixturevalue("redis"), way, tmp_path)
    yield found
    found.close()


@pytest.mark.slow
@pytest.mark.timeout(3600 if TORTURE else 600)
@pytest.mark.parametrize("way", WAYS)
def test_under_kills_each_action_has_one_outcome_and_each_track_is_in_order(station: Station) -> None:
    """With attempts that fail on their way and are made again; a queue that holds two at a time besides."""
    bus = station.bus
    station.start()
    kills = set(random.sample(range(1, STEPS), KILLS))
    queued: dict[str, list[int]] = {track: [] for track in TRACKS}
    for number in range(STEPS):
        track = random.choice(TRACKS)
        bus.runner("ana").execute_async("take_step", {"track": track, "number": number, "stumbles": 0.1})
        queued[track].append(number)
        if number % 5 == 0:
            bus.runner("ana").execute_async("step_aside", {"number": number})
        if number in kills:
            random.choice(station.workers).kill_one()
        station.until(lambda: sum(bus.runs.counts().values()) < BACKLOG, 400)
    station.until_done()
    outcomes = Counter(r.status for r in bus.journal.read(kind="outcome") if r.action in ("take_step", "step_aside"))
    assert outcomes == {"succeeded": STEPS + len(range(0, STEPS, 5))}
    ran = [(r.arguments["track"], r.result["number"]) for r in bus.journal.read(kind="outcome", action="take_step")]
    assert {track: [n for t, n in ran if t == track] for track in TRACKS} == queued
    assert query(station.url, "SELECT count(*) FROM steps WHERE track NOT IN ('aside', 'clock')") == [(STEPS,)]
    ended: dict[str, Any] = {}
    for record in bus.journal.read(kind="outcome", action="take_step"):
        began, track = record.started_at, record.arguments["track"]
        assert began is not None
        assert began >= ended.get(track, began), "two of a track at a time"
        ended[track] = record.recorded_at


@pytest.mark.slow
@pytest.mark.timeout(1800 if TORTURE else 300)
@pytest.mark.parametrize("way", WAYS)
def test_of_three_schedulers_one_is_killed_and_every_tick_is_queued_once(station: Station) -> None:
    """Minutes pass by setting the schedule back; each time one minute is due, and one of the three may be killed."""
    bus = station.bus
    station.start()
    station.workers[0].start()
    station.until(lambda: query(station.url, "SELECT count(*) FROM actionbus_ticks") == [(1,)])
    began = _minute(station.url)
    for number in range(TICKS):
        with bus.engine.begin() as connection:
            connection.execute(text("UPDATE actionbus_ticks SET ticked_at = ticked_at - 60, leased_until = 0"))
        if number % 2:
            random.choice([w for w in station.workers if w.running]).kill_one()
        station.until(lambda n=number: len(_ticks(bus)) >= n + 1)  # type: ignore[misc]
    station.until_done()
    # Minutes pass by themselves too; two that come due at once are one that is queued and one that is told as missed.
    station.until(lambda: sum(1 + each["missed"] for each in _ticks(bus)) == TICKS + _minute(station.url) - began)
    for workers in station.workers:
        workers.close()
    told = _ticks(bus)
    assert len({each["queued"] for each in told}) == len(told)
    strikes = {str(r.action_id) for r in bus.journal.read(kind="outcome", action="strike", status="succeeded")}
    waiting = {str(run.action_id) for run in bus.runs.all()}
    assert strikes | waiting == {each["queued"] for each in told}
    assert query(station.url, "SELECT count(*) FROM steps WHERE track = 'clock'") == [(len(strikes),)]


def _minute(url: URL) -> int:
    """How far the schedule is."""
    [(moved_to,)] = query(url, "SELECT ticked_at FROM actionbus_ticks")
    return int(moved_to // 60)


def _ticks(bus: Bus) -> list[Any]:
    return [r.result for r in bus.journal.read(kind="outcome", action="queue_tick", status="succeeded")]


@pytest.mark.slow
@pytest.mark.timeout(1800 if TORTURE else 300)
@pytest.mark.parametrize("way", WAYS)
def test_operators_under_load(station: Station) -> None:
    """While all run some are cancelled, dead letters are retried, what waits is rescheduled, a queue paused and resumed.

    Each has one outcome, of one kind or the other.
    """
    bus = station.bus
    operator = bus.runner("olga", operator=True)
    operator.pause("narrow")
    station.start()
    runner = bus.runner("ana")
    count = STEPS // 2
    waiting = [runner.execute_async("step_aside", {"number": n}) for n in range(10)]
    doomed = [runner.execute_async("climb", {"number": n}).action_id for n in range(count // 10)]
    late = [runner.execute_async("step_aside", {"track": "late"}, countdown=86_400) for _ in range(count // 10)]
    tickets, cancelled, asked = [], set(), set()
    for number in range(count):
        tickets.append(runner.execute_async("take_step", {"track": f"t{number % 7}", "number": number}))
        if number % 4 == 0:
            with suppress(InvalidArguments):  # it was faster
                was = operator.cancel(tickets[-1].action_id).result["was"]
                (cancelled if was == "waiting" else asked).add(tickets[-1].action_id)
        if number == count // 2:
            random.choice(station.workers).kill_one()
            station.until(lambda: len(Queues(bus.backend).dead_letters()) == len(doomed), 400)
            runner.execute("take_step", {"track": "ladder"})
        if number > count // 2 and doomed:
            operator.retry(doomed.pop())
            operator.reschedule(late[len(doomed)].action_id)
    station.until(lambda: {run.queue for run in bus.runs.all(10_000)} <= {"narrow"}, 400)
    assert [bus.journal.outcome(each.action_id) for each in waiting] == [None] * 10, "the paused queue waits"
    assert operator.resume("narrow").result["changed"]
    station.until_done()
    for ticket in tickets:
        try:
            assert ticket.wait(0).status == "succeeded"
            assert ticket.action_id not in cancelled
        except ActionFailed as failed:
            assert failed.outcome.error is not None
            assert failed.outcome.error["type"] == "actionbus:ActionCancelled"
            # One that ran is only asked; but an attempt that comes to no end, as of a worker that dies, is the last.
            assert ticket.action_id in cancelled | asked
            cancelled.add(ticket.action_id)
    taken = dict(query(station.url, "SELECT track, count(*) FROM steps GROUP BY track"))
    assert sum(number for track, number in taken.items() if track.startswith("t")) == count - len(cancelled)
    assert (taken["climb"], taken["late"], taken["aside"]) == (count // 10, count // 10, 10)
    assert Queues(bus.backend).dead_letters() == []


@pytest.mark.parametrize("way", WAYS)
def test_sigterm_drains(station: Station) -> None:
    station.start()
    station.bus.runner("ana").execute_async("take_step", {"track": "a"}).wait(PATIENCE_S)
    for workers in station.workers:
        for worker in workers.running:
            worker.send_signal(signal.SIGTERM)
    for workers in station.workers:
        for worker in workers.running:
            assert worker.wait(PATIENCE_S) == 0, station.told()
