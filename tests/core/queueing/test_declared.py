"""What a handler declares of being queued is done, and what cannot be meant is refused when the bus is built."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import ActionFailed, ActionTimeout, Arg, Bus, ConfigurationError, Queue, Retry, Unique
from actionbus.core.declare import queue
from actionbus.core.queueing.worker import Worker
from actionbus.core.storage.queue_state import Queues
from tests.core.queueing.steps import Make, make, rows, steps
from tests.helpers import let_time_pass
from tests.queued.actions.step_aside import StepAside
from tests.queued.actions.take_step import Stumbled, TakeStep
from tests.queued.app import make_application

__all__ = ["make"]

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"queue": "two words"}, "`queue` must be a name"),
    ({"priority": "high"}, "`priority` must be a whole number"),
    ({"priority": True}, "`priority` must be a whole number"),
    ({"timeout": 0}, "`timeout` must be seconds"),
    ({"timeout": "1 hour"}, "`timeout` must be seconds"),
    ({"timeout": float("inf")}, "more than 0 and up to 1000000000, not inf"),
    ({"timeout": 10**400}, "more than 0 and up to 1000000000, not 1000"),
    ({"queue": "x" * 300}, "up to 100 letters, .* not 'xxx"),
    ({"retry": 3}, r"`retry` must be a Retry"),
    ({"retry": Retry()}, "`on` must be a tuple of exceptions"),
    ({"retry": Retry(on=("TimeoutError",))}, "`on` must be a tuple of exceptions"),  # type: ignore[arg-type]
    ({"retry": Retry(on=(BaseException,))}, "`on` must be a tuple of exceptions"),  # type: ignore[arg-type]
    ({"retry": Retry(on=(OSError,), attempts=1)}, "`attempts` must be 2 to 1000"),
    ({"retry": Retry(on=(OSError,), backoff=[])}, "`backoff` must be seconds"),
    ({"retry": Retry(on=(OSError,), backoff=[-1.0])}, "`backoff` must be seconds"),
    ({"retry": Retry(on=(OSError,), backoff=[float("nan")])}, "`backoff` must be seconds"),
    ({"retry": Retry(on=(OSError,), backoff=float("inf"))}, "`backoff` must be seconds, up to 1000000000"),
    ({"retry": Retry(on=(OSError,), backoff={1.0})}, "`backoff` must be seconds"),  # type: ignore[arg-type]
    ({"concurrency_key": "trck"}, "names 'trck', which is no argument; there are: track"),
    ({"concurrency_key": ("track", "no")}, "names 'no', which is no argument"),
    ({"concurrency_key": 7}, "must be the name of an argument"),
    ({"unique": "1 hour"}, r"`unique` must be a Unique"),
    ({"unique": Unique(by=("no",))}, "names 'no', which is no argument"),
    ({"unique": Unique(for_="an hour")}, "`for_` must be a time such as '1 hour'"),
    ({"unique": Unique(for_=timedelta(0))}, "`for_` must be more than nothing"),
    ({"every": "hourly"}, "five fields of cron"),
    ({"every": "61 * * * *"}, "never comes"),
    ({"every": "0 0 30 2 *"}, "never comes"),
    ({"every": "0 * * * * Europe/Atlantis"}, "five fields of cron"),
    ({"every": "0 * * * * Europe"}, "five fields of cron"),
    ({"every": "0 * * * * ../UTC"}, "five fields of cron"),
    ({"every": "0 * * * *"}, "it requires track"),
]


@pytest.mark.parametrize(("declared", "told"), REFUSED, ids=[str(each[0])[:60] for each in REFUSED])
def test_a_bad_declaration_is_refused(monkeypatch: pytest.MonkeyPatch, declared: dict[str, Any], told: str) -> None:
    for name, value in declared.items():
        monkeypatch.setattr(TakeStep, name, value)
    with pytest.raises(ConfigurationError, match=told):
        Bus(make_application(), "sqlite://")


@pytest.mark.parametrize("arg", [Arg(str, required=True, sensitive=True), Arg(str, required=True, personal=True)])
def test_what_may_not_stand_in_clear_makes_no_key(monkeypatch: pytest.MonkeyPatch, arg: Arg) -> None:
    monkeypatch.setattr(TakeStep, "arguments", {**TakeStep.arguments, "track": arg})
    with pytest.raises(ConfigurationError, match="may not stand in the queue's tables in clear"):
        Bus(make_application(), "sqlite://")


@pytest.mark.parametrize(
    ("queues", "told"),
    [
        ([Queue("narow", concurrency=1)], "no action names this queue; there are: actions"),
        ([Queue("narrow")], "limits nothing"),
        ([Queue("narrow", concurrency=0)], "from 1 up"),
        ([Queue("narrow", rate="fast")], "must be such as '10/second'"),
        ([Queue("narrow", concurrency=1), Queue("narrow", rate="1/second")], "declared twice"),
        (["narrow"], "expected Queue"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(queues: list[Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Bus(make_application(queues=queues), "sqlite://")


def test_an_argument_may_have_the_name_of_what_a_queue_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepAside, "arguments", {**StepAside.arguments, "priority": Arg(int), "every": Arg(str)})
    Bus(make_application(), "sqlite://").close()


def failing(handler: Any) -> None:
    raise Stumbled("again and again")


def test_what_is_declared_is_tried_again_with_its_pauses_and_then_its_outcome(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TakeStep, "retry", Retry(on=(Stumbled,), attempts=3, backoff=[10.0, 20.0]))
    monkeypatch.setattr(TakeStep, "execute", failing)
    bus = make()
    ticket = bus.runner("ana").execute_async("take_step", {"track": "a"})
    for attempts, pause in ((1, 10), (2, 20)):
        assert Worker(bus).run_due() == 1
        run = bus.runs.get(ticket.action_id)
        assert run is not None
        assert (run.attempts, run.problem) == (attempts, "Stumbled: again and again")
        assert pause - 5 < run.due_at - Queues(bus.backend).now() <= pause
        let_time_pass(bus, pause)
    Worker(bus).run_due()
    with pytest.raises(ActionFailed) as failed:
        ticket.wait(0)
    assert failed.value.outcome.error is not None
    assert failed.value.outcome.error["type"].endswith("Stumbled")
    [dead] = Queues(bus.backend).dead_letters()
    assert (dead.action_id, dead.status, dead.attempts) == (ticket.action_id, "failed", 3)


def test_what_is_not_declared_is_not_tried_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TakeStep, "retry", Retry(on=(OSError,)))
    monkeypatch.setattr(TakeStep, "execute", failing)
    bus = make()
    bus.runner("ana").execute_async("take_step", {"track": "a"})
    assert Worker(bus).run_due() == 1
    assert bus.runs.all() == []


def test_pauses_grow_and_have_an_end() -> None:
    doubled = Retry(on=(OSError,), backoff=2.0)
    assert all(2 ** (n - 1) <= doubled.pause(n) <= 2**n for n in range(1, 10))
    assert doubled.pause(1000) <= 3600
    assert Retry(on=(OSError,), backoff=lambda attempts: attempts * 7).pause(3) == 21
    assert Retry(on=(OSError,), backoff=[1, 5]).pause(9) == 5


def test_a_pause_that_is_named_is_kept_however_long() -> None:
    a_day = 86_400.0
    assert Retry(on=(OSError,), backoff=[1.0, a_day]).pause(2) == a_day
    assert Retry(on=(OSError,), backoff=lambda attempts: attempts * a_day).pause(7) == 7 * a_day
    assert all(a_day / 2 <= Retry(on=(OSError,), backoff=a_day).pause(n) <= a_day for n in (1, 2, 50))


@pytest.mark.parametrize("given", [None, "soon", -1, float("nan"), float("inf"), True])
def test_a_backoff_that_gives_no_seconds_is_told_and_the_action_tried_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, given: Any
) -> None:
    """The usual pause is an hour here, since a busy machine may well take a second to look."""
    monkeypatch.setattr(queue, "scattered_doubling", lambda *_: 3600.0)
    monkeypatch.setattr(TakeStep, "retry", Retry(on=(Stumbled,), attempts=2, backoff=lambda attempts: given))
    monkeypatch.setattr(TakeStep, "execute", failing)
    bus = make()
    bus.runner("ana").execute_async("take_step", {"track": "a"})
    assert Worker(bus).run_due() == 1
    assert (
        f"take_step: the `backoff` of its retry must give seconds, a number from 0 up; asked after attempt 1 it raised ValueError: it gave {given!r}"
        in caplog.text
    )
    [run] = bus.runs.all()
    assert (run.attempts, run.worker, run.problem) == (1, None, "Stumbled: again and again")
    let_time_pass(bus, 3601)
    assert Worker(bus).run_due() == 1
    assert bus.runs.all() == []


def test_an_attempt_that_takes_too_long_is_ended_and_nothing_of_it_is_kept(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dawdle(handler: TakeStep) -> None:
        handler.session.execute(text("INSERT INTO steps (track, number) VALUES ('slow', 1)"))
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            time.sleep(0.01)

    monkeypatch.setattr(TakeStep, "timeout", 0.1)
    monkeypatch.setattr(TakeStep, "execute", dawdle)
    bus = make()
    ticket = bus.runner("ana").execute_async("take_step", {"track": "a"})
    with pytest.raises(ActionTimeout, match=r"longer than its timeout of 0\.1 s"):
        bus.run_queued(ticket.action_id)
    with pytest.raises(ActionFailed):
        ticket.wait(0)
    assert rows(bus, "SELECT count(*) FROM steps")[0][0] == 0


def test_a_timeout_can_be_tried_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TakeStep, "timeout", 0.05)
    monkeypatch.setattr(TakeStep, "retry", Retry(on=(ActionTimeout,), backoff=[0.0]))
    calls: list[int] = []

    def slow_at_first(handler: TakeStep) -> dict[str, Any]:
        calls.append(1)
        while len(calls) == 1:
            time.sleep(0.01)
        return {"number": 1}

    monkeypatch.setattr(TakeStep, "execute", slow_at_first)
    bus = make()
    bus.runner("ana").execute_async("take_step", {"track": "a"})
    assert Worker(bus).run_due() == 2
    assert steps(bus) == [("a", 1)]


def test_unique_until_it_has_its_outcome(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TakeStep, "unique", Unique(by=("track",)))
    bus = make()
    runner = bus.runner("ana")
    first = runner.execute_async("take_step", {"track": "a", "number": 1})
    same = runner.execute_async("take_step", {"track": "a", "number": 2})
    other = runner.execute_async("take_step", {"track": "b", "number": 3})
    assert (same.action_id, same.repeated, other.repeated) == (first.action_id, True, False)
    [refused] = bus.journal.read(kind="outcome", status="rejected")
    assert refused.error is not None
    assert refused.error["type"] == "actionbus:NotUnique"
    assert str(first.action_id) in refused.error["message"]
    assert Worker(bus).run_due() == 2
    again = runner.execute_async("take_step", {"track": "a", "number": 4})
    assert not again.repeated


def test_unique_for_a_time_whatever_came_of_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TakeStep, "unique", Unique(by=("track",), for_="1 hour"))
    bus = make()
    runner = bus.runner("ana")
    first = runner.execute_async("take_step", {"track": "a"})
    Worker(bus).run_due()
    assert runner.execute_async("take_step", {"track": "a"}).action_id == first.action_id
    with bus.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE actionbus_unique SET until = until - 3600")
    assert not runner.execute_async("take_step", {"track": "a"}).repeated


def test_of_many_at_once_one_is_queued(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TakeStep, "unique", Unique(by=("track",), for_="1 hour"))
    bus = make()
    ready = threading.Barrier(8)

    def ask(_: int) -> Any:
        ready.wait()
        return bus.runner("ana").execute_async("take_step", {"track": "a"}).action_id

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(ask, range(8)))
    assert len(ids) == 1
    assert [run.action_id for run in bus.runs.all()] == list(ids)
    assert Worker(bus).run_due() == 1


def test_unique_from_inside_an_action(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it reserved is gone with the action that did, and is there if that is committed."""
    monkeypatch.setattr(TakeStep, "unique", Unique(by=("track",)))
    monkeypatch.setattr(StepAside, "requires", ("session", "runner"))
    tickets: list[Any] = []

    def queue_two(handler: Any) -> dict[str, Any]:
        tickets[:] = [handler.runner.execute_async("take_step", {"track": "a"}) for _ in range(2)]
        if handler.args.number:
            raise RuntimeError("no")
        return {"number": 0}

    monkeypatch.setattr(StepAside, "execute", queue_two)
    bus = make()
    with pytest.raises(RuntimeError):
        bus.execute("step_aside", {"number": 1})
    assert bus.runs.all() == []
    bus.execute("step_aside", {})
    first, second = tickets
    assert (second.action_id, second.repeated, first.repeated) == (first.action_id, True, False)
    assert [run.action_id for run in bus.runs.all()] == [first.action_id]
