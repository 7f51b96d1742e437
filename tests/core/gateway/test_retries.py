"""Serialization failures and deadlocks are retried whole, without asking the outside world twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from actionbus import Bus
from tests.conftest import BusFactory, elsewhere, query
from tests.helpers import balance, opened
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, Mailer, make_application
from tests.waiting import PATIENCE_S


@pytest.fixture
def bus(make_postgres_bus: BusFactory) -> Bus:
    """PostgreSQL alone: on SQLite, with one writer, nothing can conflict."""
    return opened(make_postgres_bus(), 1, 2)


def conflict_once(bus: Bus, tries: list[int]) -> Any:
    """A function that raises a real serialization failure the first time."""

    def run(handler: Any) -> Any:
        tries.append(1)
        handler.mailer.send("bob", text=f"n={handler.args.n}")
        account = handler.session.get(Account, 1)
        if len(tries) == 1:
            elsewhere(lambda: query(bus.engine.url, "UPDATE accounts SET balance = balance + 100 WHERE id = 1"))
        account.balance += 1
        handler.session.flush()
        return {"balance": account.balance}

    return run


def test_a_serialization_failure_is_retried_with_one_outside_call(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    Mailer.sent.clear()
    monkeypatch.setattr(CallBack, "isolation", "REPEATABLE READ")
    monkeypatch.setattr(CallBack, "function", conflict_once(bus, tries))
    fresh = Bus(bus.application, bus.engine)
    outcome = fresh.execute("call_back", {"n": 3})
    assert (len(tries), len(Mailer.sent), outcome.result) == (2, 1, {"balance": 101})
    record = bus.journal.get(outcome.action_id)
    assert record
    assert record.calls
    assert len(record.calls) == 1
    assert len(bus.journal.history(outcome.action_id)) == 2


def test_a_retry_that_asks_something_else_is_answered_by_the_world(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    Mailer.sent.clear()

    def run(handler: Any) -> None:
        tries.append(1)
        handler.mailer.send("bob", text=f"try {len(tries)}")
        if len(tries) == 1:
            handler.session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$"))

    monkeypatch.setattr(CallBack, "function", run)
    bus.execute("call_back")
    assert [said for _, said in Mailer.sent] == ["try 1", "try 2"]


def test_a_deadlock_is_retried(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Barrier(2)
    first = threading.local()

    def run(handler: Any) -> None:
        order = (1, 2) if handler.args.n else (2, 1)
        for number, account in enumerate(order):
            handler.session.execute(text(f"UPDATE accounts SET balance = balance + 1 WHERE id = {account}"))
            if number == 0 and not getattr(first, "passed", False):
                first.passed = True
                gate.wait(PATIENCE_S)

    monkeypatch.setattr(CallBack, "function", run)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda n: bus.execute("call_back", {"n": n}), (0, 1)))
    assert [outcome.status for outcome in outcomes] == ["succeeded"] * 2
    assert (balance(bus, 1), balance(bus, 2)) == (2, 2)


def test_the_attempts_are_bounded(make_postgres_bus: BusFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = make_postgres_bus(attempts=3)
    tries: list[int] = []

    def run(handler: Any) -> None:
        tries.append(1)
        handler.session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$"))

    monkeypatch.setattr(CallBack, "function", run)
    with pytest.raises(OperationalError):
        bus.execute("call_back")
    assert len(tries) == 3
    record = bus.journal.tail(1)[0]
    assert record.error
    assert (record.status, record.error["sqlstate"]) == ("failed", "40P01")


def test_a_failure_at_commit_rolls_back_and_is_told(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    with bus.engine.begin() as connection:
        connection.execute(
            text("ALTER TABLE entries ALTER CONSTRAINT entries_account_id_fkey DEFERRABLE INITIALLY DEFERRED")
        )

    def run(handler: Any) -> None:
        handler.session.execute(text("INSERT INTO entries (account_id, amount) VALUES (99, 1)"))

    monkeypatch.setattr(CallBack, "function", run)
    with pytest.raises(DBAPIError, match="foreign key"):
        bus.execute("call_back")
    assert bus.journal.tail(1)[0].status == "failed"
    with bus.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM entries")).scalar() == 0
        assert connection.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).scalar() == 0


def test_lost_updates_of_eight_threads_never_happen(bus: Bus) -> None:
    serializable = Bus(make_application(isolation="SERIALIZABLE"), bus.engine, attempts=50)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: serializable.execute("deposit", {"id": 1}), range(80)))
    assert balance(bus, 1) == 80


def test_what_a_call_gave_is_not_asked_twice_either(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of a client, opened by the attempt before: what is asked of it goes on record with the retry."""
    tries: list[int] = []
    said: list[str] = []

    class Session:
        def __enter__(self) -> Session:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def send(self, text: str) -> int:
            said.append(text)
            return len(said)

    def run(handler: Any) -> int:
        tries.append(1)
        with handler.mailer.session() as session:
            number: int = session.send("hello")
        if len(tries) == 1:
            handler.session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$"))
        return number

    monkeypatch.setattr(Mailer, "session", Session, raising=False)
    monkeypatch.setattr(CallBack, "function", run)
    outcome = bus.execute("call_back")
    assert (len(tries), said, outcome.result) == (2, ["hello"], 1)
    record = bus.journal.get(outcome.action_id)
    assert record
    assert [call["call"] for call in record.calls or ()] == [
        "mailer.session",
        "mailer.session().__enter__",
        "mailer.session().send",
        "mailer.session().__exit__",
    ]
