"""Which run a worker gets: by time, priority, limits, pauses and keys, on the database's word alone (decision 29)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Bus, Dispatcher, Queue
from actionbus.core.queueing import claiming
from actionbus.core.queueing.claiming import STALE_S, run_next, take_back_stale
from actionbus.core.queueing.worker import Worker
from actionbus.core.storage.claims import Claims
from actionbus.core.storage.runs import Run
from actionbus.testing import HeldBroker
from tests.core.queueing.steps import Make, make, rows, steps
from tests.helpers import let_time_pass
from tests.queued.actions.step_aside import StepAside
from tests.queued.actions.take_step import Stumbled, TakeStep
from tests.queued.app import make_application
from tests.waiting import PATIENCE_S, eventually

__all__ = ["make"]
TRACKS = ("a", "b", "c")


def queue(bus: Bus, *numbers: int, action: str = "take_step", track: str = "a", **options: Any) -> list[Any]:
    runner = bus.runner("ana")
    return [runner.execute_async(action, {"track": track, "number": each}, **options).action_id for each in numbers]


def work(bus: Bus) -> int:
    return Worker(bus).run_due()


def take(bus: Bus, **options: Any) -> Run | None:
    with bus.backend.connection() as connection:
        return bus.services.claims.take(connection, "w", 60.0, **options)


def test_any_application_has_a_queue(make: Make) -> None:
    """No broker, no Redis, no Celery: a worker claims what is there."""
    bus = make()
    ticket = bus.runner("ana").execute_async("take_step", {"track": "a", "number": 1})
    stop = threading.Event()
    worker = threading.Thread(target=Worker(bus).run, args=[stop])
    worker.start()
    try:
        assert ticket.wait(PATIENCE_S).result == {"number": 1}
        woken = bus.runner("ana").execute_async("take_step", {"track": "a", "number": 2}, countdown=0.1)
        assert woken.wait(PATIENCE_S).result == {"number": 2}
    finally:
        stop.set()
        worker.join()
    assert bus.runs.all() == []


def test_higher_priority_first_then_the_longest_due(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = make()
    for number, priority in enumerate((0, 5, 0, -3, 5)):
        monkeypatch.setattr(StepAside, "priority", priority)
        queue(Bus(make_application(), bus.engine), number, action="step_aside")
    assert work(bus) == 5
    assert [number for _, number in steps(bus)] == [1, 4, 0, 2, 3]


def test_of_a_key_one_at_a_time_in_order_though_one_is_tried_again_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = make()
    first, second = queue(bus, 1, 2)
    queue(bus, 3, track="b")
    begun: list[int] = []

    def stumble_once(handler: TakeStep) -> dict[str, Any]:
        begun.append(handler.args.number)
        if begun == [1]:
            raise Stumbled("once")
        return {"number": handler.args.number}

    monkeypatch.setattr(TakeStep, "execute", stumble_once)
    monkeypatch.setattr(TakeStep, "retry", type(TakeStep.retry)(on=(Stumbled,), attempts=5, backoff=[600.0]))  # type: ignore[arg-type]
    assert work(bus) == 2, "the first of each track; the second of the track waits behind the first, which waits"
    run = bus.runs.get(first)
    assert run is not None
    assert (run.state, run.attempts, run.problem) == ("queued", 1, "Stumbled: once")
    assert bus.run_queued(second) is None, "nor does a message for it help"
    let_time_pass(bus, 601)
    assert work(bus) == 2
    assert begun == [1, 3, 1, 2]


def test_keys_are_values_whatever_the_action(make: Make) -> None:
    bus = make()
    queue(bus, 1, 2)
    taken = take(bus)
    assert taken is not None
    assert taken.concurrency_key == 'track="a"'
    assert take(bus) is None


def test_the_index_keeps_two_of_a_key_from_running_whatever_a_claim_has_seen(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose INSERT commits late lies before one that runs already; a claim made blind to that is refused."""
    bus = make()
    queue(bus, 1, 2)
    assert take(bus) is not None
    seen = Claims._open

    def blind(self: Claims, queues: Any, only: Any) -> Any:
        return self._table.c.worker.is_(None)

    monkeypatch.setattr(Claims, "_open", blind)
    assert take(bus) is None
    monkeypatch.setattr(Claims, "_open", seen)
    assert len([run for run in bus.runs.all() if run.worker]) == 1


@pytest.mark.parametrize("limit", [1, 3])
def test_a_queue_has_no_more_running_than_its_limit_however_many_claim(make: Make, limit: int) -> None:
    bus = make(make_application(queues=[Queue("narrow", concurrency=limit)]))
    queue(bus, *range(12), action="step_aside")
    queue(bus, 99)
    with ThreadPoolExecutor(8) as threads:
        taken = [run for run in threads.map(lambda _: take(bus), range(24)) if run is not None]
    assert Counter(run.queue for run in taken) == {"narrow": limit, "actions": 1}
    with bus.backend.connection() as connection:
        for statement in bus.runs.deleting(next(run for run in taken if run.queue == "narrow").action_id):
            bus.backend.run_alone(connection, statement)
    assert take(bus) is not None, "the end of one lets another begin"
    assert take(bus) is None


def test_a_rate_is_kept_evenly(make: Make) -> None:
    bus = make(make_application(queues=[Queue("narrow", rate="60/hour")]))
    queue(bus, 1, 2, 3, action="step_aside")
    assert take(bus) is not None
    assert take(bus) is None
    wait = bus.services.claims.rated_in(None)
    assert wait is not None
    assert 50 < wait <= 60
    _clock_goes_on(bus, 61)
    assert take(bus) is not None
    assert take(bus) is None


def _clock_goes_on(bus: Bus, seconds: float) -> None:
    with bus.engine.begin() as connection:
        connection.execute(text("UPDATE actionbus_queues SET next_at = next_at - :s"), {"s": seconds})


def test_a_paused_queue_waits_whoever_asks_and_goes_on(make: Make) -> None:
    bus = make()
    operator = bus.runner("olga", operator=True)
    [action_id] = queue(bus, 1, action="step_aside")
    assert operator.pause("narrow").result == {"queue": "narrow", "changed": True}
    assert operator.pause("narrow").result["changed"] is False
    queue(bus, 2)
    assert work(bus) == 1
    assert bus.run_queued(action_id) is None
    assert operator.resume("narrow").result["changed"] is True
    assert work(bus) == 1
    assert [number for _, number in steps(bus)] == [2, 1]


def test_a_worker_takes_from_its_queues_alone(make: Make) -> None:
    bus = make()
    queue(bus, 1)
    queue(bus, 2, action="step_aside")
    assert Worker(bus, ["narrow"]).run_due() == 1
    assert steps(bus) == [("a", 2)]


def test_what_a_dead_worker_had_is_begun_again_and_what_runs_is_not(make: Make) -> None:
    """The claim of a worker that died before it took the lock, or with it, is taken back; a held lock says it lives."""
    bus = make()
    [action_id] = queue(bus, 1)
    assert take(bus) is not None
    assert take_back_stale(bus.services) == [], "its worker may be on its way to the lock"
    let_time_pass(bus, STALE_S + 1)
    with bus.backend.connection() as connection:
        assert bus.backend.claim(connection, action_id)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(take_back_stale, bus.services).result() == []
        bus.backend.release(connection, action_id)
    assert take_back_stale(bus.services) == [action_id]
    run = bus.runs.get(action_id)
    assert run is not None
    assert (run.worker, run.attempts, run.problem) == (None, 1, "its worker ended before it had an outcome")
    assert work(bus) == 1
    assert steps(bus) == [("a", 1)]


def test_a_worker_as_slow_as_a_dead_one_finds_its_claim_gone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its claim and the lock it is stopped, taken for dead, and its run given to another, which runs it."""
    bus = make()
    [action_id] = queue(bus, 1)
    locked, ran = claiming._locked, []

    def slow(services: Any, connection: Any, which: Any) -> bool:
        monkeypatch.setattr(claiming, "_locked", locked)
        let_time_pass(bus, STALE_S + 1)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(take_back_stale, bus.services).result() == [action_id]
            ran.append(other.submit(run_next, bus.services, "another", None).result().outcome)
        return locked(services, connection, which)

    monkeypatch.setattr(claiming, "_locked", slow)
    assert run_next(bus.services, "slow").outcome is None
    assert ran[0].status == "succeeded"
    assert steps(bus) == [("a", 1)]
    assert rows(bus, "SELECT count(*) FROM steps")[0][0] == 1


def test_a_slow_worker_leaves_a_run_to_whom_it_was_given_meanwhile(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, but the other has only claimed it yet: whose claim it is says the row, by worker and attempt."""
    bus = make()
    [action_id] = queue(bus, 1)
    locked = claiming._locked

    def slow(services: Any, connection: Any, which: Any) -> bool:
        monkeypatch.setattr(claiming, "_locked", locked)
        let_time_pass(bus, STALE_S + 1)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(take_back_stale, bus.services).result() == [action_id]
            assert other.submit(take, bus).result() is not None
        return locked(services, connection, which)

    monkeypatch.setattr(claiming, "_locked", slow)
    assert run_next(bus.services, "slow").outcome is None
    assert steps(bus) == []
    run = bus.runs.get(action_id)
    assert run is not None
    assert (run.worker, run.attempts) == ("w", 2)


def test_a_broker_is_asked_again_when_a_rate_lets_the_next_one_begin(make: Make) -> None:
    """A message that comes too early is used up; another one is sent for the first that waits, when that may begin."""
    broker = HeldBroker()
    broker.redeliver_after = 3600.0
    bus = make(make_application(queues=[Queue("narrow", rate="60/hour")]), broker=broker)
    queue(bus, 1, 2, 3, action="step_aside")
    assert len(broker.run(bus)) == 1, "three messages, one of which may"
    assert Dispatcher(bus).send() == []
    _clock_goes_on(bus, 61)
    let_time_pass(bus, 61)
    [sent] = Dispatcher(bus).send()
    assert bus.run_queued(sent)


def test_a_lock_that_somebody_holds_puts_a_run_off_and_costs_no_more(make: Make) -> None:
    bus = make()
    [action_id] = queue(bus, 1)
    with bus.backend.connection() as connection, ThreadPoolExecutor(1) as other:
        assert bus.backend.claim(connection, action_id)
        assert other.submit(run_next, bus.services, "w", None).result() == (True, None)
        bus.backend.release(connection, action_id)
    run = bus.runs.get(action_id)
    assert run is not None
    assert (run.worker, run.problem) == (None, "somebody held the action's lock")
    let_time_pass(bus, 5)
    assert work(bus) == 1


def test_many_claimers_get_each_run_once_and_each_key_in_order(make: Make) -> None:
    """Threads as workers, with attempts that fail: every step is taken once, those of a track one after the other."""
    bus = make()
    count = 12
    for number in range(count):
        for track in TRACKS:
            bus.runner("ana").execute_async("take_step", {"track": track, "number": number, "stumbles": 0.3})
    stop = threading.Event()
    workers = [threading.Thread(target=Worker(bus, name=f"w{n}").run, args=[stop]) for n in range(4)]
    for worker in workers:
        worker.start()
    try:
        eventually(lambda: not bus.runs.all(), lambda: f"all are done; left: {bus.runs.counts()}")
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    taken = steps(bus)
    assert {track: [n for t, n in taken if t == track] for track in TRACKS} == {
        track: list(range(count)) for track in TRACKS
    }
    assert rows(bus, "SELECT count(*) FROM steps")[0][0] == count * len(TRACKS)
    _no_two_of_a_track_at_a_time(bus)


def _no_two_of_a_track_at_a_time(bus: Bus) -> None:
    ended: dict[str, Any] = {}
    for record in bus.journal.read(kind="outcome", action="take_step"):
        track = record.arguments["track"]
        assert record.started_at is not None
        assert record.started_at >= ended.get(track, record.started_at), "one began before the one before it had ended"
        ended[track] = record.recorded_at


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_worker_and_a_dispatcher_outlive_their_connections(make: Make) -> None:
    bus, other = make(), make()
    stop = threading.Event()
    threads = [threading.Thread(target=each.run, args=[stop]) for each in (Worker(bus), Dispatcher(bus))]
    for thread in threads:
        thread.start()
    try:
        assert other.runner("ana").execute_async("take_step", {"track": "a"}).wait(PATIENCE_S)
        with other.engine.connect() as connection:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            connection.execute(text(f"{ended} AND datname = current_database()"))
        ticket = Bus(make_application(), other.engine).runner("ana").execute_async("take_step", {"track": "b"})
        assert ticket.wait(PATIENCE_S).status == "succeeded"
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_clock_that_is_wrong_claims_nothing_early(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = make()
    queue(bus, 1, countdown=600)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 3600)
    assert work(bus) == 0
