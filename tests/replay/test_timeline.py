"""Snapshots, upcasts, forks, exported journals and tests, documents in time."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import PickleType, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from actionbus import Application, Arg, Bus
from actionbus.adapters.cli.replayed import write_documents
from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.library.projections.kits import Kits
from actionbus.replay import NeedsUpcast, Replayer, ReplayError, Snapshot, Timeline
from actionbus.replay.bisect import bisect
from actionbus.replay.debug import Debugging
from actionbus.replay.documents import Documents, documents_at
from actionbus.replay.export import Export
from actionbus.replay.fork import Forking, Inserted
from actionbus.replay.transfer import export, header, import_into
from tests.conftest import prepared
from tests.replay.conftest import MakeCopy, attempt, fill, live, open_bus
from tests.shop.actions.deposit import Deposit
from tests.shop.actions.withdraw import Withdraw
from tests.shop.app import make_application


@pytest.fixture
def bus(url: URL) -> Any:
    prepared(url)
    with Bus(make_application(), url) as bus:
        yield bus


def test_an_application_with_data_begins_with_a_snapshot(bus: Bus, sandbox_url: Any, tmp_path: Path) -> None:
    with bus.engine.begin() as connection:
        connection.execute(text("INSERT INTO accounts VALUES (7, 'old', 100)"))
    start = Snapshot.create(bus, tmp_path)
    assert (start.position, start.tables) == (0, {"accounts": 1, "entries": 0})
    bus.execute("withdraw", {"id": 7, "amount": 30})
    with Timeline(bus.journal, make_application(), sandbox_url, start=start) as timeline:
        timeline.extend()
        assert timeline.problems() == {}
        assert list(timeline.rows("accounts")) == [{"id": 7, "name": "old", "balance": 70}]
        timeline.go(0)
        assert list(timeline.rows("accounts")) == [{"id": 7, "name": "old", "balance": 100}]


def test_a_replay_starts_at_the_nearest_snapshot(bus: Bus, sandbox_url: Any, tmp_path: Path) -> None:
    fill(bus)
    middle = Snapshot.create(bus, tmp_path)
    bus.execute("deposit", {"id": 1, "amount": 4})
    assert Snapshot.nearest(tmp_path, bus.journal.identity(), middle.position - 1) is None
    assert Snapshot.nearest(tmp_path, bus.journal.identity(), bus.journal.last()) == middle
    with Replayer(bus.journal, make_application(), sandbox_url, start=middle) as replayer:
        steps = list(replayer.steps())
    assert [(step.record.action, step.verdict) for step in steps] == [("deposit", "same")]


def test_a_snapshot_shows_what_was_written_outside_the_gateway(bus: Bus, sandbox_url: Any, tmp_path: Path) -> None:
    fill(bus)
    with Timeline(bus.journal, make_application(), sandbox_url) as timeline:
        assert timeline.check(Snapshot.create(bus, tmp_path)) == []
        with bus.engine.begin() as connection:
            connection.execute(text("UPDATE accounts SET balance = balance + 1000 WHERE id = 2"))
            connection.execute(text("INSERT INTO accounts VALUES (99, 'smuggled', 1)"))
        changes = timeline.check(Snapshot.create(bus, tmp_path))
        assert [(change.table, change.key, change.operation) for change in changes] == [
            ("accounts", (2,), "update"), ("accounts", (99,), "insert"),
        ]  # fmt: skip
        assert changes[0].columns() == {"balance": (15, 1015)}


def test_a_snapshot_knows_what_was_in_flight(postgres_url: URL, tmp_path: Path) -> None:
    """An outcome with a lower position, committed after the snapshot was taken, is not in it, and is told."""
    prepared(postgres_url)
    with Bus(make_application(), postgres_url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        bus.execute("open_account", {"id": 2, "name": "b"})

        with bus.engine.connect() as slow:
            slow.execute(
                text("""
                INSERT INTO journal (action_id, kind, action, correlation_id, arguments, seed, status, started_at)
                VALUES (gen_random_uuid(), 'outcome', 'deposit', 'x', '{"id": 1}', NULL, 'succeeded', now())
            """)
            )
            bus.execute("deposit", {"id": 2})
            taken = Snapshot.create(bus, tmp_path)
            slow.commit()
        held = [record for record in bus.journal.read(kind="outcome") if record.position in taken.missing]
        assert len(held) == 1
        assert not taken.contains(held[0])
        others = [record for record in bus.journal.read(kind="outcome") if record not in held]
        assert all(taken.contains(record) for record in others)


def test_a_snapshot_cut_off_is_no_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "x.snapshot.gz"
    path.write_bytes(gzip.compress(b'{"format": 1}')[:10])
    with pytest.raises(ReplayError, match="is no snapshot"):
        Snapshot.read(path)


def test_older_versions_need_an_upcast(bus: Bus, sandbox_url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bus)
    monkeypatch.setattr(Withdraw, "version", Withdraw.version + 1)
    monkeypatch.setattr(Withdraw, "arguments", {"account": Arg(int, required=True), "amount": Arg(int, required=True)})
    old = Withdraw.execute

    def execute(self: Withdraw) -> Any:
        self.set_args({"id": self.args.account, "amount": self.args.amount})
        return old(self)

    monkeypatch.setattr(Withdraw, "execute", execute)
    monkeypatch.setattr(Withdraw, "validate", lambda self: None)
    application = make_application()
    with Replayer(bus.journal, application, sandbox_url) as replayer:
        with pytest.raises(NeedsUpcast, match=r"withdraw: the journal has version 1 .* has no upcast"):
            next(replayer.steps())
        assert replayer.sandbox.head == 0, "nothing was run"

        def upcast(cls: type, arguments: dict[str, Any], version: int) -> dict[str, Any]:
            assert version == 1
            return {"account": arguments["id"], "amount": arguments["amount"]}

        monkeypatch.setattr(Withdraw, "upcast", classmethod(upcast))
        steps = [step for step in replayer.steps() if step.record.action in ("withdraw", "open_account")]
        assert [(step.verdict, step.differences) for step in steps] == [("same", [])] * 4


def test_blame_and_history(bus: Bus, sandbox_url: Any) -> None:
    fill(bus)
    with Timeline(bus.journal, make_application(), sandbox_url) as timeline:
        timeline.extend()
        found = {each.column: each for each in timeline.blame("accounts", timeline.key("accounts", "1"))}
        assert (found["balance"].value, found["balance"].record.action) == (15, "transfer")
        assert (found["name"].value, found["name"].record.actor) == ("n1", "ann")
        history = timeline.versions("accounts", (1,))
        assert [(change.columns().get("balance"), record.action) for change, record in history] == [
            ((None, 0), "open_account"), ((0, 10), "deposit"), ((10, 15), "transfer"),
        ]  # fmt: skip
        with pytest.raises(ReplayError, match="is no key of accounts"):
            timeline.key("accounts", "x")
        with pytest.raises(ReplayError, match="there is no table 'nothing'"):
            timeline.key("nothing", "1")


def test_points_in_history(bus: Bus) -> None:
    fill(bus)
    records = list(bus.journal.read(kind="outcome"))
    at = Timeline.position_in
    assert at(bus.journal, "start") == 0
    assert at(bus.journal, "end") == records[-1].position
    assert at(bus.journal, str(records[2].action_id)) == records[2].position
    assert at(bus.journal, records[2].recorded_at.isoformat()) >= records[2].position
    assert at(bus.journal, "2000-01-01") == 0
    nested = next(record for record in records if record.cause_id)
    assert at(bus.journal, str(nested.action_id)) > nested.position, "it is its outer action's"
    with pytest.raises(ReplayError, match="is no position"):
        at(bus.journal, "yesterdayish")


def test_what_if(bus: Bus, sandbox_url: Any) -> None:
    fill(bus)
    first, big = list(bus.journal.read(action="deposit", kind="outcome"))[:2]
    failed = next(bus.journal.read(action="withdraw", status="failed"))
    with Timeline(bus.journal, make_application(), sandbox_url) as timeline:
        timeline.extend()
        skipped = Forking(timeline, skip=[big.action_id]).run()
        ended = {(each.action, each.now.status if each.now else None) for each in skipped.ended}
        assert ("deposit", None) in ended
        assert ("transfer", "failed") in ended, "there is not enough to transfer"
        rows = {(change.table, change.key): change.columns() for change in skipped.rows if change.table == "accounts"}
        assert rows == {("accounts", (1,)): {"balance": (15, 10)}, ("accounts", (2,)): {"balance": (15, 0)}}
        edited = Forking(timeline, edit={first.action_id: {"amount": 2000}}).run()
        assert failed.action_id in {each.action_id for each in edited.ended}, "what failed then succeeds now"
        inserted = Forking(timeline, insert=[Inserted(big.position, "deposit", {"id": 3, "amount": 1}, "eve")]).run()
        assert [each.action for each in inserted.ended if each.then is None] == ["deposit"]
        with pytest.raises(ReplayError, match="has no argument 'amonut'"):
            Forking(timeline, edit={first.action_id: {"amonut": 1}})


def test_a_fork_stops_where_the_lines_meet(bus: Bus, sandbox_url: Any) -> None:
    bus.execute("open_account", {"id": 1, "name": "a"})
    one = bus.execute("deposit", {"id": 1, "amount": 3})
    other = bus.execute("withdraw", {"id": 1, "amount": 3})
    for _ in range(20):
        bus.execute("open_account", {"id": 100 + _, "name": f"later {_}"})
    with Timeline(bus.journal, make_application(), sandbox_url) as timeline:
        skipped = Forking(timeline, skip=[one.action_id, other.action_id]).run()
        changed = [change for change in skipped.rows if change.table == "accounts"]
        assert changed == []
        assert (skipped.met_at, skipped.run) == (None, 20), "their entries are missing on to the end"
        same = Forking(timeline, edit={one.action_id: {"amount": 3}}).run()
        assert (same.met_at, same.run) == (one.position, 1)


def test_with_a_fake(bus: Bus, sandbox_url: Any) -> None:
    class Fake:
        def send(self, to: str, text: str) -> str:
            return f"fake to {to}"

    bus.execute("notify", {"to": "ann"})
    with Timeline(bus.journal, make_application(), sandbox_url) as timeline:
        fork = Forking(timeline, overrides={"mailer": Fake()}).run()
    (ended,) = fork.ended
    assert "fake to ann" in str(ended.differences)


def test_an_exported_test_passes_and_fails_when_the_handler_changes(bus: Bus, sandbox_url: Any, tmp_path: Path) -> None:
    fill(bus)
    notified = bus.execute("notify", {"to": "ann", "account": 1})
    ids = [next(bus.journal.read(action="transfer", kind="outcome")).action_id, notified.action_id,
           next(bus.journal.read(action="withdraw", status="failed")).action_id]  # fmt: skip
    with Timeline(bus.journal, make_application(), sandbox_url) as timeline:
        for number, action_id in enumerate(ids):
            debugging = Debugging(timeline, action_id)
            rows = Export(timeline, debugging, "tests.adapters.shop_app:app").write(tmp_path / f"test_{number}.py")
            assert rows <= 2, "only the accounts concerned"
    written = (tmp_path / "test_0.py").read_text()
    assert "fixture.rows('accounts'" in written
    assert len(written.splitlines()) < 60
    assert "fixture.call('mailer.send', 'ann'" in (tmp_path / "test_1.py").read_text()
    assert "ArithmeticError" in (tmp_path / "test_2.py").read_text()
    root = str(Path(__file__).parents[2])
    run = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
        "-c",
        f"{root}/pyproject.toml",
    ]
    assert subprocess.run(run, cwd=root, check=False, capture_output=True).returncode == 0
    (tmp_path / "conftest.py").write_text(
        "from tests.shop.actions.withdraw import Withdraw\n"
        "old = Withdraw.execute\n"
        "def execute(self):\n    done = old(self)\n    self.repo.account(self.args.id).balance += 1\n    return done\n"
        "Withdraw.execute = execute\n"
    )
    assert subprocess.run(run, cwd=root, check=False, capture_output=True).returncode == 1


def test_out_of_one_journal_into_another(bus: Bus, tmp_path: Path, server: Any) -> None:
    fill(bus)
    bus.execute("notify", {"to": "ann"})
    path = tmp_path / "journal.gz"
    count = export(bus.journal, path)
    assert count == bus.journal.count(kind=None)
    assert header(path)["dialect"] == bus.journal.dialect
    other = make_url("sqlite://") if bus.journal.dialect == "postgresql" else server.database()
    for url in (make_url("sqlite://"), other):
        with open_bus(make_application(), url) as laptop:
            assert import_into(laptop, path) == count
            # On PostgreSQL the numbers of transactions are others, there and in snapshots.
            ours = [record._replace(xid=None, seen=None) for record in bus.journal.read()]
            assert [record._replace(xid=None, seen=None) for record in laptop.journal.read()] == ours
            assert laptop.journal.identity() == bus.journal.identity()
            with Replayer(laptop.journal, make_application(), "sqlite://") as replayer:
                assert {step.verdict for step in replayer.steps(statuses=("succeeded", "failed"))} == {"same"}
            with pytest.raises(ReplayError, match="is not empty"):
                import_into(laptop, path)
            assert laptop.execute("draw").position > bus.journal.last(), "the journal goes on"
    if other.get_backend_name() == "postgresql":
        server.drop(other)


def test_an_import_is_whole_or_not_at_all(sqlite_url: URL, tmp_path: Path) -> None:
    prepared(sqlite_url)
    with Bus(make_application(), sqlite_url) as bus:
        fill(bus)
        path = tmp_path / "journal.gz"
        export(bus.journal, path)
    whole = path.read_bytes()
    for cut in (whole[: len(whole) // 2], b"not gzip", gzip.compress(b'{"format": 99}\n')):
        path.write_bytes(cut)
        with open_bus(make_application(), make_url("sqlite://")) as laptop:
            with pytest.raises(ReplayError, match="is no exported journal"):
                import_into(laptop, path)
            assert laptop.journal.last() == 0


def test_pseudonyms(url: URL, tmp_path: Path, make_copy: MakeCopy) -> None:
    """The same value gets the same one everywhere, nothing of it is left, and history still replays."""
    with open_bus(make_copy().application(), url) as bus:
        live(bus)
        path = tmp_path / "journal.gz"
        export(bus.journal, tmp_path / "names.gz", pseudonymize=["name"])
        export(bus.journal, path, pseudonymize=["actor", "member"])
    names = gzip.decompress((tmp_path / "names.gz").read_bytes()).decode()
    assert not [name for name in ("Icons", "Photos", "Signs", "Copy") if name in names]
    told = gzip.decompress(path.read_bytes()).decode()
    assert not [name for name in ("ana", "ben", "cleo", "dora") if re.search(rf"\b{name}\b", told)]
    assert json.loads(told.splitlines()[0])["pseudonymized"] == ["actor", "member"]
    with open_bus(make_copy().application(), make_url("sqlite://")) as laptop:
        import_into(laptop, path)
        with Replayer(laptop.journal, make_copy().application()) as replayer:
            steps = list(replayer.steps())
        # Who may issue tokens is told by the actor's name, which is another one here.
        divergent = [(step, step.differences) for step in steps if step.verdict == "divergent"]
        assert [each for each in divergent if each[0].entry.submitted.action != "add_token"] == []


def test_documents_as_they_were(url: URL, make_copy: MakeCopy) -> None:
    with open_bus(make_copy().application(), url) as bus:
        kit = attempt(bus, "ana", "create_kit", name="Icons")["kit_id"]
        before = bus.journal.last()
        attempt(bus, "ana", "rename_kit", kit_id=kit, name="Signs")
        assert documents_at(bus.journal, Kits, before)[kit]["name"] == "Icons"
        assert documents_at(bus.journal, Kits, bus.journal.last())[kit]["name"] == "Signs"
        assert documents_at(bus.journal, Kits, 0) == {}

        def check(position: int) -> bool:
            documents = Documents(bus.journal, Kits)
            documents.go(position)
            return any(each["name"] == "Signs" for each in documents.all().values())

        positions = [record.position for record in bus.journal.read(kind="outcome")]
        assert bisect(check, positions, 0).position == bus.journal.last()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_bisect_needs_few_checks(size: int) -> None:
    import math

    positions = list(range(10, 10 * size + 10, 10))
    for first in sorted({0, size // 3, size // 2, size - 1}):
        found = bisect(lambda at, first=first: at >= positions[first], positions, 0)
        assert found.position == positions[first]
        assert found.checks <= max(2 * math.log2(size), math.ceil(math.log2(size + 1)) + 2)
    absent = bisect(lambda at: False, positions, 0)
    assert absent.position is None
    assert "not detected" in absent.note
    with pytest.raises(ReplayError, match="holds at the good end"):
        bisect(lambda at: True, positions, 0)


def test_what_flickers_is_found_by_samples_or_looked_for_one_by_one() -> None:
    positions = list(range(1, 101))
    window = bisect(lambda at: 40 <= at <= 70, positions, 0)
    assert window.position == 40
    assert "comes and goes" in window.note
    assert bisect(lambda at: at == 33, positions, 0, linear=True).position == 33


def test_a_wrong_deposit_is_told_from_what_follows(bus: Bus, sandbox_url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bus)
    old = Deposit.execute

    def execute(self: Deposit) -> Any:
        done = old(self)
        account = self.repo.account(self.args.id)
        if account and self.args.amount == 20:
            account.balance -= 19
        return done

    monkeypatch.setattr(Deposit, "execute", execute)
    with Replayer(bus.journal, make_application(), sandbox_url) as replayer:
        found = [step for step in replayer.steps() if step.verdict == "divergent"]
    assert [(step.record.action, step.follows is None) for step in found] == [("deposit", True), ("transfer", False)]
    assert found[1].follows == found[0].record.action_id


def test_an_interrupted_replay_goes_on_where_it_was(sqlite_url: URL, tmp_path: Path) -> None:
    prepared(sqlite_url)
    place = f"sqlite:///{tmp_path / 'timeline.db'}"
    with Bus(make_application(), sqlite_url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        for _ in range(450):
            bus.execute("deposit", {"id": 1, "amount": 1})
        for stop in (150, 300, 440):
            seen = 0

            def interrupt(step: Any, stop: int = stop) -> None:
                nonlocal seen
                seen += 1
                if step.position > 2 * stop:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt), Timeline(bus.journal, make_application(), place) as timeline:
                timeline.extend(None, interrupt)
        with Timeline(bus.journal, make_application(), place) as timeline:
            timeline.extend()
            assert timeline.problems() == {}
            assert [row["balance"] for row in timeline.rows("accounts")] == [450]
            assert len(timeline.positions()) == 451
            timeline.go(2)
            assert [row["balance"] for row in timeline.rows("accounts")] == [0]


def test_another_dialect_must_be_asked_for(postgres_url: URL) -> None:
    prepared(postgres_url)
    with Bus(make_application(), postgres_url) as bus, pytest.raises(ReplayError, match="give an empty database"):
        Replayer(bus.journal, make_application())


def test_sql_with_colons_and_percent_signs(bus: Bus, sandbox_url: Any) -> None:
    bus.execute("open_account", {"id": 1, "name": "12:30 100%"})
    with Timeline(bus.journal, make_application(), sandbox_url) as timeline:
        timeline.extend()
        assert len(list(timeline.rows("accounts", "name LIKE '%:30 100%'"))) == 1
        assert timeline.query("SELECT name FROM accounts WHERE name LIKE '%:30%'") == (["name"], [("12:30 100%",)])


def test_a_nested_action_of_an_older_version(bus: Bus, sandbox_url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bus)
    monkeypatch.setattr(Deposit, "version", Deposit.version + 1)
    monkeypatch.setattr(Deposit, "arguments", {**Deposit.arguments, "currency": Arg(str, default="EUR")})
    application = make_application()
    failing = classmethod(lambda cls, arguments, version: arguments["nothing"])
    monkeypatch.setattr(Deposit, "upcast", failing)
    with (
        Replayer(bus.journal, application, sandbox_url) as replayer,
        pytest.raises(ReplayError, match=r"upcast\(\) of version 2 raised KeyError"),
    ):
        list(replayer.steps())
    monkeypatch.setattr(Deposit, "upcast", classmethod(lambda cls, arguments, version: dict(arguments)))
    with Replayer(bus.journal, application, "sqlite://") as replayer:
        assert {step.verdict for step in replayer.steps()} == {"same"}, "in the outer and the nested ones"


def test_a_value_that_no_snapshot_can_hold_is_told(sqlite_url: URL, tmp_path: Path) -> None:
    class Base(DeclarativeBase):
        pass

    class Odd(Base):
        __tablename__ = "odd"
        id: Mapped[int] = mapped_column(primary_key=True)
        thing: Mapped[Any] = mapped_column(PickleType)

    with open_bus(Application("odd", actions=["tests.shop.actions"], models=Base.metadata,
                              dependencies=make_application().dependencies), sqlite_url) as bus:  # fmt: skip
        with Session(bus.engine) as session:
            session.add(Odd(id=1, thing=range(3)))
            session.commit()
        with pytest.raises(ReplayError, match=r"odd\.thing holds a range, which a snapshot cannot hold"):
            Snapshot.create(bus, tmp_path)
        assert list(tmp_path.glob("*.tmp")) == []


def test_documents_as_they_were_go_into_elasticsearch(
    sqlite_url: URL, make_copy: MakeCopy, elasticsearch_store: ElasticsearchStore
) -> None:
    with open_bus(make_copy().application(), sqlite_url) as bus:
        kit = attempt(bus, "ana", "create_kit", name="Icons")["kit_id"]
        before = bus.journal.last()
        attempt(bus, "ana", "rename_kit", kit_id=kit, name="Signs")
        write_documents(elasticsearch_store, Kits, "kits-then", documents_at(bus.journal, Kits, before))
    try:
        (found,) = elasticsearch_store.scan("kits-then")
        assert found[0] == kit
        assert found[1].document is not None
        assert found[1].document["name"] == "Icons"
    finally:
        elasticsearch_store.delete_index("kits-then")


def test_a_fork_that_begins_with_nested_actions_has_all_of_them(bus: Bus, sandbox_url: Any) -> None:
    """Their records lie before the outcome at which the other line begins."""
    fill(bus)
    outcome = next(bus.journal.read(action="transfer", kind="outcome"))
    with Timeline(bus.journal, make_application(), sandbox_url) as timeline:
        entry = timeline.entry(outcome.action_id)
        assert [each.outcome.action for each in entry.nested] == ["withdraw", "deposit"]
        same = Forking(timeline, edit={outcome.action_id: dict(entry.submitted.arguments)}).run()
    assert (same.ended, same.rows, same.met_at) == ([], [], outcome.position)
