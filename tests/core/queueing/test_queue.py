"""Queued actions without a broker: what the journal, the runs and a bare Broker promise, whoever carries messages."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actionbus import (
    ActionFailed,
    ActionInProgress,
    Arg,
    Bus,
    Dispatcher,
    IdempotencyConflict,
    InvalidArguments,
    Message,
    Misuse,
    PermissionDenied,
    UnknownAction,
)
from tests.conftest import BusFactory, elsewhere
from tests.core.queues import Broker, lost_database, time_passes
from tests.helpers import balance, let_time_pass
from tests.shop.actions.call_back import CallBack
from tests.shop.actions.deposit import Deposit
from tests.shop.app import Account
from tests.waiting import PATIENCE_S, Asked


def account(bus: Bus, number: int = 1) -> None:
    bus.execute("open_account", {"id": number, "name": f"account {number}"}, actor="ana")


def kinds(bus: Bus) -> list[tuple[str, str, str | None]]:
    return [(record.action, record.kind, record.status) for record in bus.journal.read()]


def test_queued_then_run_then_done(bus: Bus, queue: Broker) -> None:
    runner = bus.runner("ana", correlation_id="c-1", context={"tenant": "x"})
    ticket = runner.execute_async("open_account", {"id": "7", "name": "seven"})
    assert ticket.state == "due"
    [message] = queue.messages
    assert message == Message(ticket.action_id, "open_account", "actions")
    assert [record.kind for record in bus.journal.history(ticket.action_id)] == ["submitted"]
    outcome = bus.run_queued(ticket.action_id, "worker-1")
    assert outcome is not None
    assert outcome.result == {"id": 7}
    assert ticket.state == "done"
    assert ticket.wait(0) == outcome
    assert bus.runs.all() == []
    submitted, settled = bus.journal.history(ticket.action_id)
    assert settled.arguments == {"id": 7, "name": "seven"}
    assert (settled.actor, settled.correlation_id, settled.action_id) == ("ana", "c-1", submitted.action_id)
    assert submitted.context == {"tenant": "x"}


def test_a_message_that_comes_again_does_nothing(bus: Bus) -> None:
    account(bus)
    ticket = bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 5})
    assert bus.run_queued(ticket.action_id)
    assert bus.run_queued(ticket.action_id) is None
    assert balance(bus) == 5


def test_two_workers_at_once_run_it_once(bus: Bus) -> None:
    account(bus)
    tickets = [bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1}) for _ in range(10)]
    ran: list[Any] = []

    def work() -> None:
        for ticket in tickets:
            ran.append(bus.run_queued(ticket.action_id))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ticket in tickets:  # those that a thread found running elsewhere
        bus.run_queued(ticket.action_id)
    assert len([outcome for outcome in ran if outcome]) == 10
    assert balance(bus) == 10


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("open_account", {"id": "x"}, InvalidArguments),
        ("no_such", {}, UnknownAction),
        ("open_account", {"id": 1, "name": "again"}, InvalidArguments),
    ],
)
def test_errors_reach_the_caller_at_once_and_the_journal(
    bus: Bus, queue: Broker, name: str, arguments: dict[str, Any], error: type[Exception]
) -> None:
    account(bus)
    with pytest.raises(error) as caught:
        bus.runner("ana").execute_async(name, arguments)
    assert queue.messages == []
    assert bus.runs.all() == []
    assert [r.status for r in bus.journal.history(caught.value.action_id)] == [None, "rejected"]  # type: ignore[attr-defined]


def test_permission_is_asked_when_queued_and_when_run(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermissionDenied):
        bus.runner("mallory").execute_async("open_account", {"id": 1, "name": "m"})
    ticket = bus.runner("ana").execute_async("open_account", {"id": 1, "name": "a"})
    from tests.shop.app import Checkpoint

    def refuse(self: Checkpoint, permission: str, arguments: Any) -> None:
        raise PermissionDenied("not any more")

    monkeypatch.setattr(Checkpoint, "require", refuse)
    with pytest.raises(PermissionDenied):
        bus.run_queued(ticket.action_id)
    with pytest.raises(ActionFailed) as failed:
        ticket.wait(0)
    assert failed.value.outcome.status == "denied"


def test_validation_leaves_nothing_behind(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: Any) -> None:
        self.repo.open(99, "written by validate()")

    from tests.shop.actions.open_account import OpenAccount

    monkeypatch.setattr(OpenAccount, "validate", careless)
    bus.runner("ana").execute_async("open_account", {"id": 1, "name": "a"})
    with bus.services.session_factory(bind=bus.engine) as session:
        assert session.query(Account).all() == []


def test_what_is_not_due_waits(bus: Bus, queue: Broker) -> None:
    account(bus)
    ticket = bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1}, countdown=3600)
    assert (ticket.state, queue.messages) == ("queued", [])
    dispatcher = Dispatcher(bus)
    assert dispatcher.send() == []
    let_time_pass(bus, 3601)
    assert ticket.state == "due"
    assert dispatcher.send() == [ticket.action_id]
    assert dispatcher.send() == []


def test_eta_and_its_mistakes(bus: Bus, queue: Broker) -> None:
    account(bus)
    runner = bus.runner("ana")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert runner.execute_async("deposit", {"id": 1, "amount": 1}, eta=tomorrow).due_at == tomorrow
    past = runner.execute_async("deposit", {"id": 1, "amount": 1}, eta=datetime(2020, 1, 1))
    assert past.state == "due"
    assert len(queue.messages) == 1
    for wrong in ({"eta": tomorrow, "countdown": 1}, {"countdown": -1}, {"countdown": float("nan")}):
        with pytest.raises(ValueError, match=r"eta or countdown|countdown must"):
            runner.execute_async("deposit", {"id": 1, "amount": 1}, **wrong)
    for beyond in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(ValueError, match="years 1 to 9999"):
            runner.execute_async("deposit", {"id": 1, "amount": 1}, eta=datetime.fromisoformat(beyond))


def test_a_broker_that_is_away_is_told_and_loses_nothing(bus: Bus, queue: Broker) -> None:
    account(bus)
    queue.away = True
    ticket = bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1})
    assert ticket.problem == "the broker is away"
    assert bus.recover(timedelta(0)).requeued == []
    queue.away = False
    recovered = bus.recover(timedelta(0))
    assert (recovered.queued, recovered.requeued, recovered.interrupted) == ([ticket.action_id], [ticket.action_id], [])
    assert bus.run_queued(ticket.action_id)


def test_a_message_that_is_lost_is_sent_again(bus: Bus, queue: Broker) -> None:
    account(bus)
    ticket = bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1})
    queue.messages.clear()
    dispatcher = Dispatcher(bus)
    assert dispatcher.send() == []
    let_time_pass(bus, 61)
    assert dispatcher.send() == [ticket.action_id]
    let_time_pass(bus, 61)
    assert dispatcher.send() == [], "the pause doubles"
    let_time_pass(bus, 61)
    assert dispatcher.send() == [ticket.action_id]


def test_the_key_of_a_queued_action(bus: Bus, queue: Broker) -> None:
    account(bus)
    runner = bus.runner("ana")
    first = runner.execute_async("deposit", {"id": 1, "amount": 1}, idempotency_key="k")
    again = runner.execute_async("deposit", {"id": 1, "amount": 1}, idempotency_key="k")
    assert (again.action_id, again.repeated, len(queue.messages)) == (first.action_id, True, 1)
    with pytest.raises(IdempotencyConflict):
        runner.execute_async("deposit", {"id": 1, "amount": 2}, idempotency_key="k")
    with pytest.raises(ActionInProgress):
        runner.execute("deposit", {"id": 1, "amount": 1}, idempotency_key="k")
    bus.run_queued(first.action_id)
    assert runner.execute("deposit", {"id": 1, "amount": 1}, idempotency_key="k").repeated
    assert balance(bus) == 1


def test_secrets_are_not_queued(bus: Bus, queue: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deposit, "arguments", {**Deposit.arguments, "pin": Arg(str, sensitive=True)})
    secret = Bus(bus.application, bus.engine, broker=queue)
    with pytest.raises(InvalidArguments, match="takes secrets"):
        secret.runner("ana").execute_async("deposit", {"id": 1, "amount": 1, "pin": "hunter2-hunter2"})
    assert queue.messages == []
    assert all("hunter2" not in repr(record) for record in bus.journal.read())


def test_an_error_of_the_action_is_not_tried_again(bus: Bus) -> None:
    account(bus)
    ticket = bus.runner("ana").execute_async("withdraw", {"id": 1, "amount": 100})
    with pytest.raises(ArithmeticError):
        bus.run_queued(ticket.action_id)
    assert bus.run_queued(ticket.action_id) is None
    with pytest.raises(ActionFailed):
        ticket.wait(0)


def test_a_lost_database_is_tried_again_later(bus: Bus) -> None:
    CallBack.function = lost_database
    ticket = bus.runner("ana").execute_async("call_back", {})
    assert bus.run_queued(ticket.action_id, "w") is None
    run = bus.runs.get(ticket.action_id)
    assert run is not None
    assert (run.attempts, run.worker) == (1, None)
    assert run.publish_at > run.queued_at, "after a pause"
    assert "server closed the connection" in (run.problem or "")
    assert bus.journal.outcome(ticket.action_id) is None
    CallBack.function = lambda handler: "fine"
    time_passes(bus)
    outcome = bus.run_queued(ticket.action_id)
    assert outcome is not None
    assert outcome.result == "fine"


def test_attempts_are_capped(bus: Bus) -> None:
    CallBack.function = lost_database
    ticket = bus.runner("ana").execute_async("call_back", {})
    for _ in range(3):
        assert bus.run_queued(ticket.action_id) is None
        time_passes(bus)
    with pytest.raises(Exception, match="given up after 3 attempts"):
        bus.run_queued(ticket.action_id)
    record = bus.journal.outcome(ticket.action_id)
    assert record is not None
    assert record.error is not None
    assert record.status == "failed"
    assert record.error["type"] == "actionbus:AttemptsExhausted"
    assert bus.runs.all() == []


def test_a_worker_told_to_end_hands_the_action_back(bus: Bus) -> None:
    def ended(handler: Any) -> None:
        raise SystemExit(1)

    CallBack.function = ended
    ticket = bus.runner("ana").execute_async("call_back", {})
    with pytest.raises(SystemExit):
        bus.run_queued(ticket.action_id)
    assert bus.journal.outcome(ticket.action_id) is None
    assert Dispatcher(bus).send() == [ticket.action_id]


def test_running_is_seen_from_outside(bus: Bus, make_bus: BusFactory, queue: Broker) -> None:
    seen: list[Any] = []
    other = make_bus(broker=queue)

    def look(handler: Any) -> None:
        seen.append(elsewhere(lambda: other.runs.get(ticket.action_id)))
        seen.append(elsewhere(lambda: other.run_queued(ticket.action_id)))
        if bus.engine.dialect.name == "postgresql":  # on SQLite, with its one writer, recovery would wait
            assert elsewhere(lambda: other.recover(timedelta(0)).running) == [ticket.action_id]

    CallBack.function = look
    ticket = bus.runner("ana").execute_async("call_back", {})
    bus.run_queued(ticket.action_id, "worker-9")
    run, again = seen
    assert (run.state, run.worker, run.attempts) == ("running", "worker-9", 1)
    assert again is None


def test_queued_from_inside_an_action_it_leaves_when_that_commits(bus: Bus, queue: Broker) -> None:
    account(bus)

    def queue_one(handler: Any) -> Any:
        ticket = handler.runner.execute_async("deposit", {"id": 1, "amount": 3})
        assert queue.messages == [], "nothing leaves before the commit"
        with pytest.raises(Misuse, match="committed"):
            ticket.wait(1)
        return ticket.action_id

    CallBack.function = queue_one
    outer = bus.execute("call_back", {}, actor="ana", correlation_id="c-9")
    [message] = queue.messages
    assert str(message.action_id) == outer.result
    assert bus.run_queued(message.action_id)
    assert balance(bus) == 3
    record = bus.journal.get(message.action_id)
    assert record is not None
    assert (record.cause_id, record.correlation_id) == (outer.action_id, "c-9")


def test_queued_from_inside_an_action_that_fails_it_never_was(bus: Bus, queue: Broker) -> None:
    account(bus)

    def queue_and_fail(handler: Any) -> None:
        handler.runner.execute_async("deposit", {"id": 1, "amount": 3})
        raise RuntimeError("no")

    CallBack.function = queue_and_fail
    with pytest.raises(RuntimeError):
        bus.execute("call_back", {}, actor="ana")
    assert (queue.messages, bus.runs.all()) == ([], [])


def test_queued_in_a_savepoint_that_is_rolled_back_it_fails(bus: Bus, queue: Broker) -> None:
    account(bus)

    def queue_and_roll_back(handler: Any) -> None:
        handler.runner.execute_async("deposit", {"id": 1, "amount": 1})
        with handler.session.begin_nested() as savepoint:
            handler.runner.execute_async("deposit", {"id": 1, "amount": 3})
            savepoint.rollback()

    CallBack.function = queue_and_roll_back
    bus.execute("call_back", {}, actor="ana")
    [kept] = queue.messages
    asked = bus.journal.submitted(kept.action_id)
    assert asked is not None
    assert asked.arguments["amount"] == 1
    assert [run.action_id for run in bus.runs.all()] == [kept.action_id]
    assert kinds(bus)[2:] == [
        ("call_back", "submitted", None),
        ("deposit", "submitted", None),
        ("deposit", "submitted", None),
        ("deposit", "outcome", "failed"),
        ("call_back", "outcome", "succeeded"),
    ]


def test_refused_from_inside_an_action_it_is_on_record(bus: Bus, queue: Broker) -> None:
    def queue_nonsense(handler: Any) -> str:
        try:
            handler.runner.execute_async("deposit", {"id": "x"})
        except InvalidArguments:
            return "caught"
        return "not refused"

    CallBack.function = queue_nonsense
    assert bus.execute("call_back", {}, actor="ana").result == "caught"
    assert queue.messages == []
    assert ("deposit", "outcome", "rejected") in kinds(bus)


def test_waiting_ends(bus: Bus) -> None:
    account(bus)
    ticket = bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1})
    with pytest.raises(TimeoutError, match="is due after"):
        ticket.wait(0.05)
    asked = Asked(bus)

    def run() -> None:
        asked.until_again()
        bus.run_queued(ticket.action_id)

    running = threading.Thread(target=run)
    running.start()
    assert ticket.wait(PATIENCE_S).status == "succeeded"
    running.join()


def test_counts(bus: Bus) -> None:
    account(bus)
    bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1})
    bus.runner("ana").execute_async("deposit", {"id": 1, "amount": 1}, countdown=60)
    assert bus.runs.counts() == {"queued": 1, "due": 1, "running": 0}
