"""Nothing leaves a sandbox: sockets, processes, other databases, mails; and the journal that is read stays as it is."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus import Application, Bus, Unique, outside
from actionbus.replay import LeavesSandbox, NotRecorded, Replayer, Step
from actionbus.testing import HeldBroker
from tests.conftest import prepared
from tests.replay.conftest import fill, open_bus
from tests.servers import Server
from tests.shop.actions.call_back import CallBack
from tests.shop.actions.deposit import Deposit
from tests.shop.app import Base, Mailer, make_application

HERE = {"sandbox": False, "postgres": "", "file": ""}


class Lazy:
    """Opens a socket when it is used, and when it is made, if it is told so."""

    at_once = False

    def __init__(self, session: Session) -> None:
        if self.at_once:
            self.connect()

    def connect(self) -> str:
        socket.create_connection(("127.0.0.1", 9), 1)
        return "connected"


def lazy(session: Session) -> Lazy:
    return Lazy(session)


def other_thread(handler: Any) -> str:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            socket.create_connection(("127.0.0.1", 9), 1)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise raised[0]


def udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.sendto(b"x", ("127.0.0.1", 9))


def only_there(reach: Callable[[Any], Any]) -> Callable[[Any], str]:
    """In production it does nothing; a re-run with 'new code' reaches out."""

    def way(handler: Any) -> str:
        if HERE["sandbox"]:
            reach(handler)
        return "stayed"

    return way


WAYS: dict[str, Callable[[Any], str]] = {
    "socket": only_there(lambda handler: socket.create_connection(("127.0.0.1", 9), 1)),
    "udp": only_there(lambda handler: udp()),
    "name": only_there(lambda handler: socket.getaddrinfo("localhost", 80)),
    "thread": only_there(other_thread),
    "process": only_there(lambda handler: subprocess.run(["true"], check=True)),
    "lazy": only_there(lambda handler: handler.lazy.connect()),
    "sqlite": only_there(lambda handler: sqlite3.connect(str(HERE["file"]))),
    "psycopg2": only_there(lambda handler: psycopg2.connect("host=/nowhere")),
    "engine": only_there(lambda handler: ENGINES[0].connect()),
}
ENGINES: list[Any] = []


def escaping() -> Application:
    return Application(
        "escaping",
        actions=["tests.replay.escaping"],
        models=Base.metadata,
        dependencies={"mailer": outside(Mailer), "lazy": lazy},
    )


@pytest.fixture(autouse=True)
def outside_sandbox() -> Iterator[None]:
    HERE["sandbox"] = False
    yield
    HERE["sandbox"] = False
    Lazy.at_once = False


def rerun(bus: Bus, application: Application, sandbox: Any = "sqlite://") -> list[Step]:
    HERE["sandbox"] = True
    with Replayer(bus.journal, application, sandbox) as replayer:
        return list(replayer.verify())


@pytest.mark.parametrize("how", WAYS)
def test_what_leaves_is_refused_by_name(sqlite_url: URL, how: str) -> None:
    with open_bus(escaping(), sqlite_url) as bus:
        engine = create_engine(sqlite_url)
        engine.connect().close()
        ENGINES[:] = [engine]
        HERE["file"] = str(sqlite_url.database)
        bus.execute("escape", {"how": how})
        (step,) = rerun(bus, escaping())
        assert step.verdict == "divergent"
        assert step.rerun is not None
        assert isinstance(step.rerun.error, LeavesSandbox), step.rerun.error
        told = str(step.rerun.error)
        assert "a sandbox does not reach outside" in told
        assert "the action escape" in told
        assert "test_sandbox.py:" in told
        engine.dispose()


def test_a_dependency_that_opens_a_socket_when_made_is_named(sqlite_url: URL) -> None:
    with open_bus(escaping(), sqlite_url) as bus:
        bus.execute("escape", {"how": "socket"})
        Lazy.at_once = True
        (step,) = rerun(bus, escaping())
        assert step.rerun is not None
        assert "the dependency 'lazy' tried socket" in str(step.rerun.error)


def test_outside_a_sandbox_nothing_is_refused(sqlite_url: URL) -> None:
    with open_bus(escaping(), sqlite_url) as bus:
        bus.execute("escape", {"how": "name"})
        rerun(bus, escaping())
    HERE["sandbox"] = False
    socket.getaddrinfo("localhost", 80)
    subprocess.run(["true"], check=True)


def test_mail_is_played_back_and_never_sent(url: URL, sandbox_url: Any) -> None:
    prepared(url, recorded=True)
    Mailer.sent.clear()
    with Bus(make_application(), url) as bus:
        receipt = bus.execute("notify", {"to": "ann"}).result["receipt"]
        with pytest.raises(ConnectionError):
            bus.execute("notify", {"to": "nobody"})
        sent = list(Mailer.sent)
        with Replayer(bus.journal, make_application(), sandbox_url) as replayer:
            steps = list(replayer.verify(statuses=("succeeded", "failed")))
        assert [step.verdict for step in steps] == ["same", "same"]
        assert steps[0].calls[0]["returned"] == receipt
        assert Mailer.sent == sent, "nothing was sent again"


def test_mail_that_history_did_not_send_is_refused(sqlite_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(sqlite_url, recorded=True)
    with Bus(make_application(), sqlite_url) as bus:
        bus.execute("notify", {"to": "ann"})
        sent = list(Mailer.sent)
        from tests.shop.actions.notify import Notify

        def execute(self: Notify) -> dict[str, Any]:
            return {"receipt": self.mailer.send("everybody", text="hello")}

        monkeypatch.setattr(Notify, "execute", execute)
        with Replayer(bus.journal, make_application()) as replayer:
            (step,) = replayer.verify()
        assert step.verdict == "divergent"
        assert step.rerun is not None
        assert isinstance(step.rerun.error, NotRecorded)
        assert 'mailer.send with the arguments ["everybody"]' in str(step.rerun.error)
        assert {each.field for each in step.differences} >= {"status", "calls[0].args[0]"}
        assert Mailer.sent == sent


def test_the_journal_that_is_read_is_not_written(url: URL, sandbox_url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by a handler that has the application's own bus at hand."""
    prepared(url, recorded=True)
    with Bus(make_application(), url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        before = list(bus.journal.read())
        from tests.shop.actions.open_account import OpenAccount

        old = OpenAccount.execute

        def execute(self: OpenAccount) -> Any:
            done = old(self)
            bus.execute("deposit", {"id": 1})
            return done

        def by_engine(self: OpenAccount) -> Any:
            done = old(self)
            with bus.engine.begin() as connection:
                connection.execute(text("INSERT INTO journal (action) VALUES ('x')"))
            return done

        for way, refusal in ((execute, "self.runner"), (by_engine, "another engine")):
            monkeypatch.setattr(OpenAccount, "execute", way)
            with Replayer(bus.journal, make_application(), sandbox_url) as replayer:
                (step,) = replayer.verify()
            assert step.verdict == "divergent"
            assert step.rerun is not None
            told = str(step.rerun.error)
            assert refusal in told
            if isinstance(sandbox_url, URL):
                break
        assert list(bus.journal.read()) == before


def test_what_is_queued_in_a_sandbox_goes_nowhere(url: URL, sandbox_url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's own outcome is replayed where it lies; what a handler queues is compared."""
    prepared(url, recorded=True)
    queue = HeldBroker()
    with Bus(make_application(), url, broker=queue) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        monkeypatch.setattr(CallBack, "function", lambda h: str(h.runner.execute_async("deposit", {"id": 1}).action_id))
        bus.execute("call_back")
        sent = list(queue.messages)
        bus.run_queued(sent[0].action_id)
        with Replayer(bus.journal, make_application(), sandbox_url) as replayer:
            steps = list(replayer.verify())
        assert [step.verdict for step in steps] == ["same"] * 3, [s.differences for s in steps]
        assert [step.record.action for step in steps] == ["open_account", "call_back", "deposit"]
        assert queue.messages == sent


def test_what_is_unique_is_queued_in_a_sandbox_and_what_operators_decided_is_left_out(
    url: URL, sandbox_url: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox has no tables of a queue; nor does it decide anything about one."""
    prepared(url, recorded=True)
    monkeypatch.setattr(Deposit, "unique", Unique(by=("id",), for_="1 hour"))
    with Bus(make_application(), url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        monkeypatch.setattr(CallBack, "function", lambda h: str(h.runner.execute_async("deposit", {"id": 1}).action_id))
        queued = bus.execute("call_back").result
        bus.runner("olga", operator=True).cancel(queued)
        bus.runner("olga", operator=True).pause("actions")
        with Replayer(bus.journal, make_application(), sandbox_url) as replayer:
            steps = list(replayer.verify())
        assert [(step.record.action, step.verdict) for step in steps] == [
            ("open_account", "same"),
            ("call_back", "same"),
        ]


def test_another_action_queued_is_a_divergence(sqlite_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(sqlite_url, recorded=True)
    with Bus(make_application(), sqlite_url, broker=HeldBroker()) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        monkeypatch.setattr(CallBack, "function", lambda h: h.runner.execute_async("deposit", {"id": 1}).action)
        bus.execute("call_back")
        monkeypatch.setattr(
            CallBack, "function", lambda h: h.runner.execute_async("deposit", {"id": 1, "amount": 2}).action
        )
        with Replayer(bus.journal, make_application()) as replayer:
            steps = list(replayer.verify())
        assert [str(each) for each in steps[1].differences] == ["queued[0].arguments.amount: recorded nothing, now 2"]


def test_in_flight_history_is_left_alone(tmp_path: Path, postgres_url: URL, server: Server) -> None:
    prepared(postgres_url, recorded=True)
    with Bus(make_application(), postgres_url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        with bus.engine.begin() as connection:
            connection.execute(
                text("""
                INSERT INTO journal (action_id, kind, action, correlation_id, arguments, seed)
                VALUES (gen_random_uuid(), 'submitted', 'deposit', 'x', '{"id": 1}', repeat('0', 32))
            """)
            )
        bus.execute("deposit", {"id": 1})
        sandbox = server.database()
        with Replayer(bus.journal, make_application(), sandbox) as replayer:
            assert [step.verdict for step in replayer.verify()] == ["same", "same"]
        server.drop(sandbox)


def test_ctrl_c_in_a_replay_is_told_as_such(url: URL, sandbox_url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where it has cost the sandbox its connection."""
    prepared(url, recorded=True)
    with Bus(make_application(), url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        bus.execute("call_back")

        def interrupted(handler: Any) -> None:
            handler.session.connection().invalidate()
            raise KeyboardInterrupt

        monkeypatch.setattr(CallBack, "function", interrupted)
        with pytest.raises(KeyboardInterrupt), Replayer(bus.journal, make_application(), sandbox_url) as replayer:
            list(replayer.verify())


def test_a_transaction_does_not_grow_with_what_was_taken_back(
    bus: Bus, new_sandbox: Callable[[], URL], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run is a savepoint, kept or not; what is under way is not committed."""
    monkeypatch.setattr("actionbus.replay.sandbox.sandbox._COMMIT_EVERY", 3)
    fill(bus)
    with Replayer(bus.journal, make_application(), new_sandbox()) as replayer:
        sandbox, commits = replayer.sandbox, list[int]()
        commit = sandbox.commit
        monkeypatch.setattr(sandbox, "commit", lambda: (commits.append(at), commit()))
        for at, (entry, recorded) in enumerate(replayer.begin(0), start=1):
            for _ in range(2):
                sandbox.drop(sandbox.run(entry, recorded))
            rerun = sandbox.run(entry, recorded)
            sandbox.put([])
            assert at not in commits
            sandbox.drop(rerun)
            sandbox.put(recorded)
    assert commits == [*range(1, at + 1)]
