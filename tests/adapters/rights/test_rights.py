"""The rights that docs/rights.md grants are enough; a role that lacks one is told which, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL

from actionbus import Bus, HistoryError, JournalUnavailable
from actionbus.adapters.cli.main import main
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from actionbus.projections import Projections, Projector
from actionbus.replay import Replayer
from actionbus.replay.archives import transfer
from tests.adapters.rights.roles import BLOCKS, OWN, Roles
from tests.conftest import prepared
from tests.core.after_commit.till import Till
from tests.core.after_commit.till import application as till
from tests.core.queues import Broker
from tests.core.storage.past_the_gateway import now
from tests.helpers import abandon, environment
from tests.projections.notes.app import make_application as make_notes
from tests.servers import Server
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Base, make_application

FUNCTIONS = ("pg_current_wal_insert_lsn", "pg_current_wal_flush_lsn", "pg_logical_emit_message")


@pytest.fixture
def roles(server: Server, postgres_url: URL) -> Iterator[Roles]:
    """The roles of the page, gone afterwards."""
    prepared(postgres_url, recorded=True)
    made = Roles(postgres_url)
    made.run(OWN)
    yield made
    made.drop()


def test_an_application_needs_no_more(roles: Roles) -> None:
    """Actions plain, nested, failing, repeated, queued inside and outside; a worker; recovery; reading."""

    def handler(each: CallBack) -> Any:
        each.runner.execute("open_account", {"id": 7, "name": "g"})
        each.runner.execute_async("deposit", {"id": 7, "amount": 1})
        return each.mailer.send("ana", "hello")

    CallBack.function = handler
    queue = Broker()
    try:
        with Bus(make_application(), roles.at("shop_app"), broker=queue) as bus:
            bus.execute("open_account", {"id": 1, "name": "a"}, idempotency_key="k")
            assert bus.execute("open_account", {"id": 1, "name": "a"}, idempotency_key="k").repeated
            bus.execute("call_back")
            with pytest.raises(ArithmeticError):
                bus.execute("withdraw", {"id": 1, "amount": 1_000})
            bus.runner().execute_async("deposit", {"id": 1, "amount": 5})
            for message in queue.messages:
                assert bus.run_queued(message.action_id) is not None
            assert bus.recover(timedelta(0)).running == []
            last = bus.execute("deposit", {"id": 1, "amount": 1})
            assert [record.position for record in bus.journal.tail(2)] == [last.position - 1, last.position]
            assert bus.runs.counts() == {"queued": 0, "due": 0, "running": 0}
    finally:
        CallBack.function = lambda handler: None


GRANTS = {
    "GRANT USAGE ON SCHEMA public": "GRANT USAGE ON SCHEMA public",
    "GRANT SELECT ON journal": "GRANT SELECT ON TABLE journal",
    "GRANT INSERT ON journal": "GRANT INSERT ON TABLE journal",
    "GRANT USAGE ON SEQUENCE journal_position_seq": "GRANT USAGE ON SEQUENCE journal_position_seq",
    "GRANT SELECT ON SEQUENCE actionbus_images_image_seq": "GRANT SELECT ON SEQUENCE actionbus_images_image_seq",
    "GRANT SELECT ON actionbus_runs": "GRANT SELECT ON TABLE actionbus_runs",
    "GRANT INSERT ON actionbus_runs": "GRANT INSERT ON TABLE actionbus_runs",
    "GRANT UPDATE ON actionbus_runs": "GRANT UPDATE ON TABLE actionbus_runs",
    "GRANT DELETE ON actionbus_runs": "GRANT DELETE ON TABLE actionbus_runs",
    "GRANT SELECT ON actionbus_queues": "GRANT SELECT ON TABLE actionbus_queues",
    "GRANT INSERT ON actionbus_dead_letters": "GRANT INSERT ON TABLE actionbus_dead_letters",
}
"""Each right of an application, and what it is told to ask for."""


@pytest.mark.parametrize("how", ["execute", "execute_async", "run_queued"])
@pytest.mark.parametrize("lacking", GRANTS)
def test_an_application_that_lacks_a_right_is_told_which_before_anything_runs(
    roles: Roles, lacking: str, how: str
) -> None:
    with Bus(make_application(), roles.url, broker=Broker()) as owner:
        owner.execute("open_account", {"id": 1, "name": "a"})
        queued = owner.runner().execute_async("deposit", {"id": 1, "amount": 5}).action_id
        before = list(owner.journal.read())
    roles.run(lacking.replace("GRANT", "REVOKE", 1) + " FROM shop_app")
    ran: list[CallBack] = []
    CallBack.function = ran.append
    calls: dict[str, Callable[[Bus], Any]] = {
        "execute": lambda bus: bus.execute("call_back"),
        "execute_async": lambda bus: bus.runner().execute_async("call_back"),
        "run_queued": lambda bus: bus.run_queued(queued),
    }
    try:
        with Bus(make_application(), roles.at("shop_app"), broker=Broker()) as bus:
            with pytest.raises(JournalUnavailable) as told:
                calls[how](bus)
            assert f"{GRANTS[lacking]} TO {roles.name('shop_app')}" in str(told.value)
            roles.run(f"{lacking} TO shop_app")
            if how != "run_queued":
                assert bus.run_queued(queued), "once it is granted, all is well in the same process"
    finally:
        CallBack.function = lambda handler: None
    assert ran == []
    with Bus(make_application(), roles.url) as owner:
        assert list(owner.journal.read())[: len(before)] == before
        assert owner.journal.count(kind=None) == len(before) + (how != "run_queued")


@pytest.mark.parametrize(
    "lacking", [each for each in GRANTS if "actionbus_" not in each or each.startswith("GRANT SELECT ON SEQ")]
)
def test_a_recovery_that_lacks_a_right_is_told_which(roles: Roles, lacking: str) -> None:
    with Bus(make_application(), roles.url) as owner:
        action_id = abandon(owner)
    roles.run(lacking.replace("GRANT", "REVOKE", 1) + " FROM shop_app")
    with Bus(make_application(), roles.at("shop_app")) as bus:
        with pytest.raises(JournalUnavailable) as told:
            bus.recover(timedelta(0))
        assert f"{GRANTS[lacking]} TO {roles.name('shop_app')}" in str(told.value)
        roles.run(f"{lacking} TO shop_app")
        assert bus.recover(timedelta(0)).interrupted == [action_id]


def test_calls_after_the_commit_wait_in_the_queue_so_they_need_it(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles.run("REVOKE INSERT ON actionbus_runs FROM shop_app")
    with Bus(till(), roles.at("shop_app")) as bus, pytest.raises(JournalUnavailable, match="GRANT INSERT"):
        bus.execute("open_account", {"id": 1, "name": "a"})
    roles.run("GRANT INSERT ON actionbus_runs TO shop_app")
    monkeypatch.setattr(CallBack, "function", lambda handler: handler.mailer.charge(handler.args.n).key)
    Till.empty()
    with Bus(till(), roles.at("shop_app")) as bus:
        key = bus.execute("call_back", {"n": 5}).result
    assert Till.taken == {key: (5, "")}
    Till.empty()


def test_without_a_queue_reading_the_runs_is_enough(roles: Roles) -> None:
    roles.run("REVOKE INSERT, UPDATE, DELETE ON actionbus_runs FROM shop_app")
    with Bus(make_application(), roles.at("shop_app")) as bus:
        assert bus.execute("open_account", {"id": 1, "name": "a"}).status == "succeeded"
        assert bus.recover(timedelta(0)).running == []


@pytest.fixture
def history(roles: Roles) -> list[Any]:
    """Something to read."""
    with Bus(make_application(), roles.url, broker=Broker()) as owner:
        owner.execute("open_account", {"id": 1, "name": "a"})
        owner.runner().execute_async("deposit", {"id": 1, "amount": 5})
        return list(owner.journal.read())


@pytest.mark.parametrize("hardened", [False, True])
def test_a_reader_needs_no_more(
    roles: Roles,
    history: list[Any],
    tmp_path: Path,
    hardened: bool,
    monkeypatch: pytest.MonkeyPatch,
    empty_postgres_url: URL,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if hardened:
        take_functions(roles)
        for block in (block for is_hardened, block in BLOCKS if is_hardened):
            roles.run(block)
    with Bus(make_application(), roles.at("shop_reader")) as bus:
        assert list(bus.journal.read()) == history
        assert bus.journal.tail(1) == history[-1:]
        assert bus.journal.waiting_for() == []
        first = [record for record in history if record.action == "open_account"]
        assert bus.journal.history(first[0].action_id) == first
        assert bus.journal.stats()["records"] == len(history)
        assert len(bus.runs.all()) == 1
        assert transfer.export(bus.journal, tmp_path / "export.gz", history=bus.history) == len(history)
        with Replayer(bus.journal, make_application(), empty_postgres_url) as replayer:
            assert [step.verdict for step in replayer.verify()] == ["same"]
    for name, value in environment(roles.at("shop_reader")).items():
        monkeypatch.setenv(name, value)
    for command in (["log"], ["show", "1"], ["journal", "stats"], ["runs", "list"]):
        monkeypatch.setattr("sys.argv", ["actionbus", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr()


def test_a_reader_tells_what_rows_were(roles: Roles, tmp_path: Path) -> None:
    with Bus(make_application(), roles.url) as owner:
        with owner.engine.begin() as connection:
            install(owner.backend, connection, [TableWanted("accounts")])
        at = owner.execute("open_account", {"id": 1, "name": "a"}).position
    with Bus(make_application(), roles.at("shop_reader")) as bus:
        assert [
            each["name"] for rows in bus.history.state(limit=5, table="accounts").tables.values() for each in rows
        ] == ["a"]
        assert len(bus.history.rows("accounts", 1).changes) == 1
        found = bus.history.bisect("SELECT count(*) = 1 FROM accounts").source
        assert found is not None
        assert found.position == at
        assert transfer.export(bus.journal, tmp_path / "export.gz", history=bus.history) == bus.journal.count(kind=None)
        roles.run(f"REVOKE TEMPORARY ON DATABASE {roles.url.database} FROM PUBLIC")
        with pytest.raises(
            HistoryError, match="asked of temporary tables, which cannot be made here: permission denied"
        ):
            bus.history.bisect("SELECT count(*) = 1 FROM accounts")


def test_a_reader_writes_nothing(roles: Roles) -> None:
    with Bus(make_application(), roles.at("shop_reader")) as bus, pytest.raises(JournalUnavailable, match="GRANT"):
        bus.execute("open_account", {"id": 1, "name": "a"})


def take_functions(roles: Roles) -> None:
    for name in FUNCTIONS:
        for (signature,) in rows(roles.url, f"SELECT oid::regprocedure::text FROM pg_proc WHERE proname = '{name}'"):
            now(roles.url, f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")


def rows(url: URL, sql: str) -> list[tuple[Any, ...]]:
    engine: Engine = create_engine(url)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(sql))]
    engine.dispose()
    return found


@pytest.mark.parametrize("lacking", ["USAGE ON SCHEMA public", "SELECT ON journal", "EXECUTE"])
def test_a_reader_that_lacks_a_right_is_told_which(roles: Roles, history: list[Any], lacking: str) -> None:
    if lacking == "EXECUTE":
        take_functions(roles)
    else:
        roles.run(f"REVOKE {lacking} FROM shop_reader")
    expected = f"GRANT {lacking.replace('ON journal', 'ON TABLE journal')}"
    with Bus(make_application(), roles.at("shop_reader")) as bus:
        for read in (lambda: list(bus.journal.read()), lambda: bus.journal.tail(1), bus.journal.settled):
            with pytest.raises(JournalUnavailable) as told:
                read()
            assert expected in str(told.value)
            assert roles.name("shop_reader") in str(told.value)


def test_a_projector_needs_no_more(server: Server, tmp_path: Path) -> None:
    """The documents go elsewhere, as they do with Elasticsearch; status is for readers."""
    url = server.database()
    with Bus(make_notes(), url) as owner:
        owner.journal.create()
        for number in range(3):
            note = {"note": f"n{number}", "text": "", "number": number, "shelves": []}
            owner.execute("put_note", note, actor="ana")
    roles = Roles(url)
    elsewhere = create_engine(f"sqlite:///{tmp_path}/documents.db")
    store = EmbeddedStore(elsewhere)
    try:
        with Bus(make_notes(), roles.at("shop_projector")) as bus:
            reached = Projector(bus, store).catch_up()
            assert reached
            assert set(reached.values()) == {bus.journal.last()}
        with Bus(make_notes(), roles.at("shop_reader")) as bus:
            statuses = list(Projections(bus, store).status())
            assert {each.lag_positions for each in statuses} == {0}
    finally:
        elsewhere.dispose()
        roles.drop()
        server.drop(url)


@pytest.mark.parametrize("schema", [None, "audit"])
@pytest.mark.parametrize("use", ["append", "queue", "read"])
def test_doing_what_is_told_is_enough(postgres_url: URL, use: str, schema: str | None) -> None:
    with Bus(make_application(), postgres_url, schema=schema) as owner:
        owner.journal.create()
        Base.metadata.create_all(owner.engine)
        owner.execute("open_account", {"id": 1, "name": "a"})
    role = f"told_{uuid4().hex[:8]}"
    url = postgres_url.set(username=role)
    now(postgres_url, f"CREATE ROLE {role} LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC")
    calls: dict[str, Callable[[Bus], object]] = {
        "append": lambda bus: bus.execute("call_back"),
        "queue": lambda bus: bus.runner().execute_async("call_back", {}),
        "read": lambda bus: list(bus.journal.read()),
    }
    told: list[str] = []
    while True:
        with Bus(make_application(), url, schema=schema, broker=Broker() if use == "queue" else None) as bus:
            try:
                calls[use](bus)
                break
            except JournalUnavailable as error:
                grants = re.findall(r"GRANT [^;(]+(?= \(|;)", str(error))
                assert grants, error
                assert not set(grants) & set(told), "it asks for what it was given"
                told += grants
                for grant in grants:
                    now(postgres_url, grant)
    assert len(told) == {"append": 8, "queue": 28, "read": 3}[use]
    now(postgres_url, f"DROP OWNED BY {role}; DROP ROLE {role}")
