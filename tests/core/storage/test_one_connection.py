"""No path takes a second pooled connection while it holds one, nor a table for ours that only has its name."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

from actionbus import ActionFailed, Bus, Dispatcher, IdempotencyConflict, PermissionDenied, UnknownAction
from tests.conftest import prepared, query
from tests.core.queues import Broker, lost_database, time_passes
from tests.decoys import lead_astray
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application

THREADS = 20


class SecondConnection(Exception):
    """A thread asked for a connection while it held one."""


class Watch:
    """Refuses a second checkout by the same thread, and remembers it, whoever catches that."""

    def __init__(self, engine: Engine) -> None:
        self._held = threading.local()
        self.seconds: list[str] = []
        pool = engine.pool
        taken = pool.connect

        def connect() -> Any:
            if getattr(self._held, "number", 0):
                self.seconds.append("".join(traceback.format_stack(limit=12)))
                raise SecondConnection
            return taken()

        pool.connect = connect  # type: ignore[method-assign]
        event.listen(pool, "checkout", lambda *_: self._count(1))
        event.listen(pool, "checkin", lambda *_: self._count(-1))

    def _count(self, change: int) -> None:
        self._held.number = getattr(self._held, "number", 0) + change


@pytest.fixture
def queue() -> Broker:
    return Broker()


@pytest.fixture
def watched(url: URL, queue: Broker) -> Iterator[tuple[Bus, Watch]]:
    prepared(url)
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=2)
    watch = Watch(engine)
    yield Bus(make_application(), engine, broker=queue, reconnect_for=2), watch
    engine.dispose()


def test_the_watch_sees_a_second_connection(watched: tuple[Bus, Watch]) -> None:
    bus, watch = watched
    with pytest.raises(SecondConnection), bus.engine.connect(), bus.engine.connect():
        pass
    assert len(watch.seconds) == 1


def execute(bus: Bus, queue: Broker) -> None:
    assert bus.execute("call_back", {}, actor="ana").status == "succeeded"


def execute_unknown(bus: Bus, queue: Broker) -> None:
    with pytest.raises(UnknownAction):
        bus.execute("no_such", {}, actor="ana")


def execute_failing(bus: Bus, queue: Broker) -> None:
    with pytest.raises(LookupError):
        bus.execute("withdraw", {"id": 1, "amount": 1}, actor="ana")


def execute_repeated(bus: Bus, queue: Broker) -> None:
    for _ in range(2):
        bus.execute("call_back", {}, actor="ana", idempotency_key="k")


def execute_conflicting(bus: Bus, queue: Broker) -> None:
    bus.execute("call_back", {}, actor="ana", idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        bus.execute("call_back", {"n": 1}, actor="ana", idempotency_key="k")


def execute_async(bus: Bus, queue: Broker) -> None:
    assert bus.runner("ana").execute_async("call_back", {}).problem is None


def execute_async_repeated(bus: Bus, queue: Broker) -> None:
    first, again = (bus.runner("ana").execute_async("call_back", {}, idempotency_key="k") for _ in range(2))
    assert (again.action_id, again.repeated) == (first.action_id, True)


def execute_async_repeated_when_done(bus: Bus, queue: Broker) -> None:
    first = bus.runner("ana").execute_async("call_back", {}, idempotency_key="k")
    assert bus.run_queued(first.action_id)
    assert bus.runner("ana").execute_async("call_back", {}, idempotency_key="k").state == "done"


def execute_async_refused(bus: Bus, queue: Broker) -> None:
    with pytest.raises(PermissionDenied):
        bus.runner("mallory").execute_async("open_account", {"id": 1, "name": "m"})


def execute_async_with_the_broker_away(bus: Bus, queue: Broker) -> None:
    queue.away = True
    ticket = bus.runner("ana").execute_async("call_back", {})
    assert ticket.problem == "the broker is away"
    assert ticket.state == "due"


def nested_with_the_broker(bus: Bus, queue: Broker) -> None:
    CallBack.function = lambda handler: handler.runner.execute_async("open_account", {"id": 1, "name": "n"}).action_id
    assert bus.execute("call_back", {}, actor="ana").status == "succeeded"
    assert len(queue.messages) == 1


def nested_with_the_broker_away(bus: Bus, queue: Broker) -> None:
    queue.away = True
    CallBack.function = lambda handler: handler.runner.execute_async("open_account", {"id": 1, "name": "n"}).action_id
    assert bus.execute("call_back", {}, actor="ana").status == "succeeded"
    assert bus.runs.counts()["due"] == 1


def recover(bus: Bus, queue: Broker) -> None:
    queued = bus.runner("ana").execute_async("call_back", {})
    recovered = bus.recover(timedelta(0))
    assert (recovered.queued, recovered.requeued) == ([queued.action_id], [queued.action_id])


def recover_with_the_broker_away(bus: Bus, queue: Broker) -> None:
    queue.away = True
    queued = bus.runner("ana").execute_async("call_back", {})
    assert bus.recover(timedelta(0)).queued == [queued.action_id]
    assert bus.recover(timedelta(hours=1)).too_young == []


def run_queued(bus: Bus, queue: Broker) -> None:
    ticket = bus.runner("ana").execute_async("call_back", {})
    for expected in (True, False):
        assert bool(bus.run_queued(ticket.action_id)) is expected


def run_queued_failing(bus: Bus, queue: Broker) -> None:
    CallBack.function = lambda handler: 1 // 0
    ticket = bus.runner("ana").execute_async("call_back", {})
    with pytest.raises(ZeroDivisionError):
        bus.run_queued(ticket.action_id)
    with pytest.raises(ActionFailed):
        ticket.wait(0)


def run_queued_unfinished(bus: Bus, queue: Broker) -> None:
    CallBack.function = lost_database
    ticket = bus.runner("ana").execute_async("call_back", {})
    for attempts in (1, 2, 3):
        assert bus.run_queued(ticket.action_id) is None
        run = bus.runs.get(ticket.action_id)
        assert run is not None
        assert (run.attempts, run.worker) == (attempts, None)
        time_passes(bus)
    with pytest.raises(Exception, match="given up"):
        bus.run_queued(ticket.action_id)


def run_queued_told_to_end(bus: Bus, queue: Broker) -> None:
    def ended(handler: Any) -> None:
        raise SystemExit(1)

    CallBack.function = ended
    ticket = bus.runner("ana").execute_async("call_back", {})
    with pytest.raises(SystemExit):
        bus.run_queued(ticket.action_id)
    assert ticket.state == "due"


def run_queued_of_another_version(bus: Bus, queue: Broker) -> None:
    with pytest.MonkeyPatch.context() as patch:
        ticket = bus.runner("ana").execute_async("call_back", {})
        patch.setattr(CallBack, "version", 9)
        assert bus.run_queued(ticket.action_id) is None
    run = bus.runs.get(ticket.action_id)
    assert run is not None
    assert run.problem


def run_queued_that_queues_with_the_broker_away(bus: Bus, queue: Broker) -> None:
    CallBack.function = lambda handler: handler.runner.execute_async("open_account", {"id": 1, "name": "n"}).action_id
    ticket = bus.runner("ana").execute_async("call_back", {})
    queue.away = True
    assert bus.run_queued(ticket.action_id)


def dispatch(bus: Bus, queue: Broker) -> None:
    ticket = bus.runner("ana").execute_async("call_back", {}, countdown=60)
    time_passes(bus)
    queue.away = True
    assert Dispatcher(bus).send() == []
    queue.away = False
    time_passes(bus)
    assert Dispatcher(bus).send() == [ticket.action_id]


def require(bus: Bus, queue: Broker) -> None:
    bus.runner("ana").require("anything")
    with pytest.raises(PermissionDenied):
        bus.runner("mallory").require("anything")


def wait_for_a_ticket(bus: Bus, queue: Broker) -> None:
    ticket = bus.runner("ana").execute_async("call_back", {})
    with pytest.raises(TimeoutError):
        ticket.wait(0)
    bus.run_queued(ticket.action_id)
    assert ticket.wait(5).status == "succeeded"


def read(bus: Bus, queue: Broker) -> None:
    outcome = bus.execute("call_back", {}, actor="ana")
    journal = bus.journal
    assert [record.position for record in journal.read()] == [record.position for record in journal.tail(9)]
    assert journal.get(outcome.action_id) == journal.at(outcome.position)
    assert len(journal.history(outcome.action_id)) == journal.stats()["records"] == journal.count(kind=None)
    assert journal.waiting_for() == []
    assert journal.unfinished() == []


PATHS = [
    execute,
    execute_unknown,
    execute_failing,
    execute_repeated,
    execute_conflicting,
    execute_async,
    execute_async_repeated,
    execute_async_repeated_when_done,
    execute_async_refused,
    execute_async_with_the_broker_away,
    nested_with_the_broker,
    nested_with_the_broker_away,
    recover,
    recover_with_the_broker_away,
    run_queued,
    run_queued_failing,
    run_queued_unfinished,
    run_queued_told_to_end,
    run_queued_of_another_version,
    run_queued_that_queues_with_the_broker_away,
    dispatch,
    require,
    wait_for_a_ticket,
    read,
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_a_pool_of_one_is_enough(
    watched: tuple[Bus, Watch], queue: Broker, monkeypatch: pytest.MonkeyPatch, path: Callable[[Bus, Broker], None]
) -> None:
    bus, watch = watched
    monkeypatch.setattr(CallBack, "function", CallBack.function)  # what a path puts there goes with it
    path(bus, queue)
    assert watch.seconds == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_no_path_takes_another_table_for_ours(
    watched: tuple[Bus, Watch], queue: Broker, monkeypatch: pytest.MonkeyPatch, path: Callable[[Bus, Broker], None]
) -> None:
    bus, _ = watched
    lead_astray(bus)
    test_a_pool_of_one_is_enough(watched, queue, monkeypatch, path)
    with bus.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM journal").scalar() == 0, "names lead to the decoys"


def test_what_a_broker_raises_undoes_nothing(watched: tuple[Bus, Watch], queue: Broker) -> None:
    """An action that succeeded, or is queued, stays so, whatever a broker's library comes up with."""
    bus, _ = watched

    def broken(message: Any) -> None:
        raise RuntimeError("a bug of the broker's library")

    queue.publish = broken  # type: ignore[method-assign]
    ticket = bus.runner("ana").execute_async("call_back", {})
    assert "RuntimeError" in str(ticket.problem)
    assert ticket.state == "due"


def test_twenty_threads_on_the_default_pool_lose_nothing(url: URL, queue: Broker) -> None:
    prepared(url)
    engine = create_engine(url)
    bus = Bus(make_application(), engine, broker=queue)
    bus.execute("open_account", {"id": 1, "name": "one"}, actor="ana")
    tickets = [bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1}) for _ in range(2 * THREADS)]
    told: list[Any] = []
    together = threading.Barrier(THREADS)

    def work(number: int) -> None:
        together.wait()
        for ticket in tickets[number::THREADS]:
            try:
                told.append(bus.run_queued(ticket.action_id))
            except Exception as error:
                told.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    assert [outcome.status for outcome in told if outcome] == ["succeeded"] * len(tickets)
    assert query(url, "SELECT balance FROM accounts WHERE id = 1") == [(len(tickets),)]
