"""Ctrl-C, signals and watchdogs: an interruption reaches its caller as itself, with an outcome, and leaves nothing open."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from actionbus import Bus
from actionbus.core.declare.dependencies import being_made
from actionbus.core.storage.running import RunningActions
from actionbus.core.storage.sqlite_guard import Guard
from tests.conftest import TORTURE, prepared, query
from tests.core.gateway import interrupting
from tests.core.gateway.interrupting import interrupted
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, make_application
from tests.waiting import PATIENCE_S, eventually


class Watchdog(BaseException):
    """What a watchdog raises."""


@pytest.fixture(params=["sqlite", "postgresql"])
def bus(request: pytest.FixtureRequest, databases: dict[str, URL], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """A bus whose pool has one connection, so that what an interruption leaves behind meets the next action."""
    url = databases[request.param]
    query(url, "DELETE FROM accounts")
    monkeypatch.setattr(CallBack, "function", lambda handler: being_made())
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=2)
    with Bus(make_application(), engine) as bus:
        yield bus
    engine.dispose()


def whole(bus: Bus, number: int) -> None:
    """Nothing is open, and the next action is whole."""
    with bus.engine.connect() as connection:
        dbapi: Any = connection.connection.dbapi_connection
        if bus.engine.dialect.name == "postgresql":
            assert (dbapi.autocommit, dbapi.get_transaction_status()) == (False, 0)
        else:
            assert not dbapi.in_transaction
    assert bus.execute("call_back").result is None, "a provider that was interrupted is not making what comes later"
    outcome = bus.execute("open_account", {"id": number, "name": f"next {number}"})
    assert [record.kind for record in bus.journal.history(outcome.action_id)] == ["submitted", "outcome"]


ACTIONS: dict[str, Callable[[Bus, int], Any]] = {
    "a success": lambda bus, n: bus.execute("open_account", {"id": n, "name": str(n)}),
    "a failure": lambda bus, n: bus.execute("withdraw", {"id": n, "amount": 1}),
    "a rejection": lambda bus, n: bus.execute("open_account", {"id": "x"}),
}


@pytest.mark.parametrize("what", ACTIONS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, Watchdog] if TORTURE else [KeyboardInterrupt])
def test_an_interruption_at_any_line_of_core_leaves_nothing_half_done(
    bus: Bus, what: str, error: type[BaseException]
) -> None:
    query(bus.engine.url, "DELETE FROM accounts")
    first = bus.journal.last()
    act = ACTIONS[what]
    for warm in (1, 2):
        interrupted(0, error, lambda warm=warm: act(bus, warm))
    gc.freeze()  # what was there before is not looked through again at every interruption
    number, at, step = 10, 1, 1 if TORTURE else 13
    while True:
        number += 2
        interrupter, raised = interrupted(at, error, lambda: act(bus, number))  # noqa: B023 - called at once
        if interrupter.where is None:
            break
        assert raised is error, interrupter.where
        # Python may be interrupted between a block and the exit of its `with`; what it held then goes with the frames.
        gc.collect()
        whole(bus, number + 1)
        at += step
    assert at > 100
    with Bus(make_application(), bus.engine.url) as other:
        recovered = other.recover(timedelta(0))
    assert recovered.running == [], "an interruption must not keep the lock of its action"
    records = list(bus.journal.read(after=first))
    made = {r.arguments["id"] for r in records if r.status == "succeeded" and r.action == "open_account"}
    there = {row[0] for row in query(bus.engine.url, "SELECT id FROM accounts")}
    assert there == made
    submitted = [r.action_id for r in records if r.kind == "submitted"]
    assert sorted(submitted) == sorted(r.action_id for r in records if r.kind == "outcome")


def slow(bus: Bus, engine: Engine) -> tuple[str, threading.Event]:
    """A statement that takes long, and an event that is set once it runs."""
    begun = threading.Event()
    if bus.engine.dialect.name == "postgresql":
        threading.Thread(target=_until_it_sleeps, args=(engine, begun), daemon=True).start()
        return "SELECT count(pg_sleep(0.3))", begun
    counting = "WITH RECURSIVE c(x) AS (SELECT begun() UNION ALL SELECT x + 1 FROM c WHERE x < 2000000)"
    return f"{counting} SELECT max(x) FROM c", begun


def _until_it_sleeps(engine: Engine, begun: threading.Event) -> None:
    query_ = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        eventually(lambda: connection.execute(query_).scalar(), "the statement sleeps")
    begun.set()


def in_a_statement(handler: Any, sql: str) -> None:
    handler.session.execute(text(sql))


def in_a_flush(handler: Any, sql: str) -> None:
    """The statement that is slow is one that a flush sends."""
    target = handler.session.connection()

    def slowly(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        if statement.startswith("INSERT"):
            cursor.connection.cursor().execute(sql)

    event.listen(target, "before_cursor_execute", slowly)
    handler.session.add(Account(id=5, name="five"))
    handler.session.flush()


def by_the_driver(handler: Any, sql: str) -> None:
    handler.session.connection().connection.cursor().execute(sql)


WAYS: list[Callable[[Any, str], None]] = [in_a_statement, in_a_flush, by_the_driver]


@pytest.mark.parametrize(
    ("error", "way"),
    [(each, way) for each in (KeyboardInterrupt, Watchdog, SystemExit) for way in WAYS]
    if TORTURE
    else [*((KeyboardInterrupt, way) for way in WAYS), (Watchdog, in_a_flush), (SystemExit, by_the_driver)],
)
def test_a_signal_during_a_statement_reaches_the_caller_as_itself_with_an_outcome(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: Callable[[Any, str], None], error: type[BaseException]
) -> None:
    other = create_engine(bus.engine.url)
    sql, begun = slow(bus, other)

    def interrupt() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.SIGUSR1)

    def raise_it(_number: int, _frame: FrameType | None) -> None:
        raise error

    def handle(handler: Any) -> None:
        if bus.engine.dialect.name == "sqlite":
            dbapi: Any = handler.session.connection().connection.driver_connection
            dbapi.create_function("begun", 0, lambda: begun.set() or 1)
        handler.session.add(Account(id=1, name="one"))
        handler.session.flush()
        way(handler, sql)

    monkeypatch.setattr(CallBack, "function", handle)
    before = signal.signal(signal.SIGUSR1, raise_it)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(error) as caught:
            bus.execute("call_back")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert type(caught.value) is error
    record = bus.journal.tail(1, kind="outcome")[0]
    assert (record.action, record.status) == ("call_back", "failed")
    assert record.error is not None
    assert record.error["type"].endswith(error.__name__)
    assert query(bus.engine.url, "SELECT id FROM accounts") == []
    whole(bus, 2)
    other.dispose()


def test_an_interruption_of_what_sqlite_asks_for_reaches_the_caller_as_itself(
    sqlite_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sqlite3 makes "not authorized" of whatever is raised in an answer."""
    prepared(sqlite_url)
    with Bus(make_application(), sqlite_url) as bus:
        bus.execute("open_account", {"id": 1, "name": "one"})
        answer = Guard._answer
        struck: list[int] = []

        def interrupted(guard: Guard, code: int, *about: Any) -> int:
            if code == sqlite3.SQLITE_UPDATE and not struck:
                struck.append(code)
                raise Watchdog
            return answer(guard, code, *about)

        monkeypatch.setattr(Guard, "_answer", interrupted)
        with pytest.raises(Watchdog):
            bus.execute("deposit", {"id": 1, "amount": 5})
        assert [record.status for record in bus.journal.read(action="deposit")] == [None, "failed"]
        assert bus.execute("deposit", {"id": 1, "amount": 5}).result == {"balance": 5}


@pytest.mark.parametrize("step", ["claim", "release"])
def test_what_says_which_actions_run_is_never_left_locked(
    sqlite_url: URL, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """At whichever line it is interrupted, where a block exits too, another thread takes the same action up."""
    monkeypatch.setattr(interrupting, "_is_with", lambda frame: False)
    database = sqlite3.connect(str(sqlite_url.database), check_same_thread=False)
    database.execute("CREATE TABLE t (x)")
    for at in range(1, 100):
        running, action, claimed = RunningActions(), uuid4(), list[bool]()
        steps = {"claim": partial(running.claim, action, database), "release": partial(running.release, action)}
        if step == "release":
            steps["claim"]()
        interrupter, _ = interrupted(at, Watchdog, steps[step])

        def take_up(steps: dict[str, Any] = steps, claimed: list[bool] = claimed) -> None:
            steps["release"]()
            claimed.append(steps["claim"]())

        thread = threading.Thread(target=take_up, daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        assert claimed == [True], interrupter.where
        steps["release"]()
        if interrupter.where is None:
            break
    database.close()
    assert 3 < at < 99


def test_an_interruption_of_the_first_connection_reaches_the_caller_as_itself() -> None:
    """SQLAlchemy, asked to clean up what never was connected, raises an error of its own over it."""

    def interrupted() -> Any:
        try:
            raise KeyboardInterrupt
        finally:
            raise NotImplementedError

    engine = create_engine("sqlite:///nowhere.db", creator=interrupted)
    with Bus(make_application(), engine) as bus, pytest.raises(KeyboardInterrupt):
        bus.execute("draw")
