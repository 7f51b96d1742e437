"""Processes and servers die at any moment: what was accepted is on record, and the state is what succeeded."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from actionbus import ActionBusError, Bus, JournalUnavailable
from tests.conftest import TORTURE, BusFactory, prepared, query
from tests.helpers import balance, opened
from tests.servers import Server
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application
from tests.waiting import PATIENCE_S, any_moment, eventually

KILLS = 200 if TORTURE else 7
SERVER_KILLS = 20 if TORTURE else 2


def consistent(bus: Bus) -> None:
    """The state is exactly the sum of the succeeded outcomes, and after recovery every action has one outcome."""
    records = list(bus.journal.read())
    deposits = [r for r in records if r.action == "deposit" and r.status == "succeeded"]
    withdrawals = [r for r in records if r.action == "withdraw" and r.status == "succeeded"]
    for account in (1, 2):
        expected = sum(r.arguments["amount"] for r in deposits if r.arguments["id"] == account)
        expected -= sum(r.arguments["amount"] for r in withdrawals if r.arguments["id"] == account)
        assert balance(bus, account) == expected
    with bus.engine.connect() as connection:
        written = connection.execute(text("SELECT coalesce(sum(amount), 0) FROM entries")).scalar_one()
    assert written == sum(r.arguments["amount"] for r in deposits) - sum(r.arguments["amount"] for r in withdrawals)


def settled(bus: Bus) -> None:
    """Recovery leaves no action without outcome."""
    assert bus.recover(timedelta(0)).running == []
    submitted = [r.action_id for r in bus.journal.read(kind="submitted")]
    outcomes = [r.action_id for r in bus.journal.read(kind="outcome")]
    assert sorted(submitted) == sorted(outcomes)
    assert len(set(outcomes)) == len(outcomes)
    consistent(bus)


class Accepted(logging.Handler):
    """Writes the id of every submission that was accepted to a file, at once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def emit(self, record: logging.LogRecord) -> None:
        if " submitted, action " in record.msg:
            os.write(self._file, f"{record.args[1]}\n".encode())  # type: ignore[index]


def work(url: str, accepted: Path, seed: int) -> None:
    """Run actions of all kinds until killed."""
    logger = logging.getLogger("actionbus")
    logger.setLevel(logging.INFO)
    logger.addHandler(Accepted(accepted))
    chance = random.Random(seed)
    bus = Bus(make_application(), url)
    while True:
        try:
            match chance.randrange(5):
                case 0:
                    bus.execute("withdraw", {"id": chance.choice([1, 2]), "amount": chance.randint(1, 30)})
                case 1:
                    bus.execute("transfer", {"source": 1, "target": 2, "amount": chance.randint(1, 30)})
                case 2:
                    bus.execute("deposit", {"id": "x"})
                case _:
                    bus.execute("deposit", {"id": chance.choice([1, 2]), "amount": chance.randint(1, 9)})
        except (ActionBusError, ArithmeticError):
            continue


def test_a_process_killed_at_random_moments_leaves_nothing_half_done(url: URL, tmp_path: Path) -> None:
    prepared(url)
    accepted = tmp_path / "accepted"
    context = multiprocessing.get_context("fork")
    where = url.render_as_string(hide_password=False)
    with Bus(make_application(), url) as bus:
        opened(bus, 1, 2)
    accepted.touch()
    for number in range(KILLS):
        enough = accepted.stat().st_size + 37 * random.randrange(20)
        workers = [context.Process(target=work, args=(where, accepted, number * 10 + n)) for n in range(2)]
        for worker in workers:
            worker.start()
        eventually(lambda enough=enough: accepted.stat().st_size >= enough, "they run actions")  # type: ignore[misc]
        any_moment(0.02)
        for worker in workers:
            assert worker.pid
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
    with Bus(make_application(), url) as bus:
        ids = {UUID(line) for line in accepted.read_text().splitlines() if len(line) == 36}
        assert len(ids) > KILLS
        assert ids <= {record.action_id for record in bus.journal.read(kind="submitted")}
        consistent(bus)
        settled(bus)


@pytest.fixture
def durable_server() -> Iterator[Server]:
    """A PostgreSQL that writes to disk as it does in production, for this test to kill."""
    server = Server("fsync = on\n")
    yield server
    server.close()


def test_the_server_killed_under_load_loses_no_outcome(durable_server: Server) -> None:
    url = durable_server.database()
    prepared(url)
    bus = opened(Bus(make_application(), url, reconnect_for=PATIENCE_S), 1, 2)
    stop = threading.Event()
    known: list[UUID] = []

    def run() -> None:
        while not stop.is_set():
            try:
                known.append(bus.execute("deposit", {"id": 1, "amount": 1}).action_id)
            except (ActionBusError, DBAPIError):
                stop.wait(0.01)  # the others, and the server that starts, have the machine

    def under_load() -> None:
        enough = len(known) + random.randrange(1, 60)
        eventually(lambda: len(known) >= enough, "actions are run")
        any_moment(0.02)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(run) for _ in range(4)]
        for _ in range(SERVER_KILLS):
            under_load()
            durable_server.kill()
            durable_server.start()
        under_load()
        stop.set()
        for each in running:
            each.result()
    assert len(known) > SERVER_KILLS
    assert set(known) <= {record.action_id for record in bus.journal.read(status="succeeded")}
    assert set(known) <= {record.action_id for record in bus.journal.read(kind="submitted")}
    settled(bus)
    bus.close()


def test_a_full_disk_on_sqlite_is_told_and_nothing_is_lost(make_sqlite_bus: BusFactory, sqlite_url: URL) -> None:
    opened(make_sqlite_bus(), 1, 2)
    full = Bus(make_application(), sqlite_url)

    @event.listens_for(full.engine, "connect")
    def limit(dbapi: Any, _record: Any) -> None:
        pages = dbapi.execute("PRAGMA page_count").fetchone()[0]
        dbapi.execute(f"PRAGMA max_page_count = {pages + 3}")

    with pytest.raises((JournalUnavailable, DBAPIError)):
        for _ in range(1000):
            full.execute("deposit", {"id": 1, "amount": 3, "note": "x" * 500})
    full.close()
    settled(make_sqlite_bus())


def test_a_full_disk_on_postgresql_is_told_and_nothing_is_lost(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    bus = opened(make_postgres_bus(), 1, 2)
    query(
        postgres_url,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END$$",
    )
    query(
        postgres_url,
        "CREATE TRIGGER full_disk BEFORE INSERT ON journal FOR EACH ROW WHEN (NEW.kind = 'outcome') EXECUTE FUNCTION full_disk()",
    )
    with pytest.raises(JournalUnavailable, match="changed nothing"):
        bus.execute("deposit", {"id": 1})
    query(postgres_url, "DROP TRIGGER full_disk ON journal")
    query(postgres_url, "CREATE TRIGGER full_disk BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION full_disk()")
    with pytest.raises(JournalUnavailable, match="nothing was run"):
        bus.execute("deposit", {"id": 1})
    query(postgres_url, "DROP TRIGGER full_disk ON journal")
    settled(bus)


def test_a_forked_child_uses_connections_of_its_own(make_bus: BusFactory) -> None:
    bus = opened(make_bus(), 1)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=lambda: bus.execute("deposit", {"id": 1})) for _ in range(3)]
    for child in children:
        child.start()
    bus.execute("deposit", {"id": 1})
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert balance(bus, 1) == 4


def test_a_child_forked_inside_a_handler_leaves_the_action_to_its_parent(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the child does then: it returns, writes, raises, or runs a nested action."""
    bus = make_bus()
    parent = os.getpid()
    reading, writing = os.pipe()

    def goes_on(handler: Any, number: int) -> Any:
        if number == 1:
            handler.session.execute(text("UPDATE accounts SET balance = 99"))
        if number == 2:
            raise ValueError("in the child")
        return "child"

    def fork(handler: Any) -> Any:
        handler.session.execute(
            text("INSERT INTO accounts (id, name, balance) VALUES (:n, :n, 0)"), {"n": handler.args.n}
        )
        if child := os.fork():
            return "parent" if os.waitpid(child, 0) == (child, 0) else "a child that failed"
        return goes_on(handler, handler.args.n)

    def nested(handler: Any) -> Any:
        return handler.runner.execute("call_back", {"n": 3}).result if handler.args.n == 4 else fork(handler)

    monkeypatch.setattr(CallBack, "function", nested)
    for number in (0, 1, 2, 4):
        try:
            outcome = bus.execute("call_back", {"n": number})
        except BaseException as error:
            if os.getpid() != parent:
                os.write(writing, f"{type(error).__name__} ".encode())
        finally:
            if os.getpid() != parent:
                os._exit(0)
        assert outcome.result == "parent"
        record = bus.journal.get(outcome.action_id)
        assert record
        assert (record.status, record.result) == ("succeeded", "parent")
    assert os.read(reading, 1000) == b"Misuse " * 4
    assert query(bus.engine.url, "SELECT id, balance FROM accounts ORDER BY id") == [(0, 0), (1, 0), (2, 0), (3, 0)]
    os.close(reading)
    os.close(writing)
