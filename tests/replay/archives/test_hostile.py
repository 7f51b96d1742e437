"""Folders that are no archives, or not those they are taken for; and what is said of what lies in one by other commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, HistoryArchived, HistoryError, InvalidArguments, OutcomeUnknown, PermissionDenied
from actionbus.core.history.archiving import place_at
from actionbus.projections.delivery import place_of
from actionbus.projections.ledger import Ledger
from actionbus.replay import Replayer
from actionbus.replay.archives import transfer
from actionbus.replay.archives.attach import attach
from actionbus.replay.archives.folders import JOURNAL, MANIFEST
from actionbus.replay.archives.prune import prune
from actionbus.replay.errors import ReplayError
from actionbus.replay.past.history import whole
from tests.conftest import BusFactory, prepared
from tests.replay.archives.history import archived, nobody, told
from tests.shop.app import make_application

DEPTH = 100_000


@pytest.fixture
def bus(sqlite_url: URL) -> Iterator[Bus]:
    """A shop with one account."""
    prepared(sqlite_url, recorded=True)
    with Bus(make_application(), sqlite_url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"}, actor="ann")
        for _ in range(3):
            bus.execute("deposit", {"id": 1})
        yield bus


def _manifests(whole: dict[str, Any]) -> Iterator[str]:
    """All that a manifest may be and is not."""
    yield from (
        "",
        "null",
        "5",
        "[]",
        "{}",
        '"x"',
        "[" * DEPTH,
        '{"format": 2}',
        '{"format": [1]}',
        '{"format": 1e999}',
    )
    for name in whole:
        for value in (None, "x", 5.5, [], {}, True, -1):
            if type(value) is not type(whole[name]) and name not in ("rests_on", "incarnation"):
                yield json.dumps(whole | {name: value})
        if name not in ("rests_on", "incarnation"):
            yield json.dumps({key: value for key, value in whole.items() if key != name})
    said = whole["files"][JOURNAL]
    for files in ({}, {JOURNAL: None}, {JOURNAL: {}}, {JOURNAL: [said]}, {JOURNAL: {"sha256": 5}}, {"../x": said}):
        yield json.dumps(whole | {"files": files})
    yield json.dumps(whole | {"files": {JOURNAL: said, "../../etc/passwd": said}})


def test_whatever_a_manifest_says_is_refused_in_a_sentence(bus: Bus, tmp_path: Path) -> None:
    first, end = 4, bus.journal.settled()
    archived(bus, first, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    said = json.loads((tmp_path / "a" / MANIFEST).read_text())
    for text in _manifests(said):
        (tmp_path / "b" / MANIFEST).write_text(text)
        with pytest.raises(ReplayError, match="is no archive"):
            pytest.fail(f"{text[:200]} was attached: {attach(bus, tmp_path / 'b', operator=True, watch=nobody)}")
        with pytest.raises(ReplayError, match="not empty, and holds no archive"):
            pytest.fail(f"{text[:200]} was taken: {archived(bus, end, tmp_path / 'b')}")
    (tmp_path / "b" / MANIFEST).write_bytes(b"\xff\xfe")
    with pytest.raises(ReplayError, match="is no archive"):
        attach(bus, tmp_path / "b", operator=True, watch=nobody)


def test_a_file_is_read_once_the_database_knows_its_sha256(bus: Bus, tmp_path: Path) -> None:
    """Who alters the file and what its manifest says of it is found out before any line of the file is looked at."""
    archived(bus, 4, tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / MANIFEST).read_text())
    (tmp_path / "a" / JOURNAL).write_bytes(b"anything")
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(manifest | {"records": 1}))
    with pytest.raises(ReplayError, match=r"knows of no archive whose manifest\.json"):
        attach(bus, tmp_path / "a", operator=True, watch=nobody)


def test_a_place_where_no_folder_can_be_put_is_refused_before_anything_is_written(bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").write_text("x")
    for name in ("link", "dangling", "file"):
        with pytest.raises(ReplayError, match="symbolic link"):
            archived(bus, 4, tmp_path / name)
    assert [each for each in tmp_path.iterdir() if each.suffix == ".partial"] == []
    assert len(list(bus.journal.read())) == bus.journal.settled()


def test_what_is_refused_leaves_no_folder(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody begins to read between the writing and the decision."""
    operate = bus.operate

    def late(*given: Any, **named: Any) -> Any:
        place_of(Ledger(bus.backend), "mails", 1)
        return operate(*given, **named)

    monkeypatch.setattr(bus, "operate", late)
    with pytest.raises(InvalidArguments, match=r"still to be read by: subscription mails \(at 1\)"):
        archived(bus, 4, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    monkeypatch.undo()
    with pytest.raises(InvalidArguments, match="still to be read by"):
        archived(bus, 4, tmp_path / "a")
    assert list(tmp_path.glob("a*")) == []


def test_what_failed_leaves_no_folder_and_what_nobody_knows_does(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operate = bus.operate

    def failing(*given: Any, **named: Any) -> Any:
        raise RuntimeError("the database refused it")

    monkeypatch.setattr(bus, "operate", failing)
    with pytest.raises(RuntimeError):
        archived(bus, 4, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    for error in (OutcomeUnknown("the connection was lost"), RuntimeError("after it was decided")):

        def lost(*given: Any, error: Exception = error, **named: Any) -> Any:
            operate(*given, **named)
            raise error

        monkeypatch.setattr(bus, "operate", lost)
        with pytest.raises(type(error)):
            archived(bus, 4, tmp_path / "a")
        monkeypatch.undo()
        assert archived(bus, 4, tmp_path / "a").state == "removed", "it was decided, and is gone on with"
        attach(bus, tmp_path / "a", operator=True, watch=nobody)
        (tmp_path / "a").rename(tmp_path / type(error).__name__)


def test_a_role_that_does_not_own_the_tables_is_refused_before_anything_is_written(
    make_postgres_bus: BusFactory, tmp_path: Path
) -> None:
    owners = make_postgres_bus()
    owners.execute("open_account", {"id": 1, "name": "a"})
    end, role = owners.journal.settled(), f"archiver_{owners.engine.url.database}"
    archived(owners, 1, tmp_path / "one")
    with owners.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'")
        connection.exec_driver_sql(f'GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO "{role}"')
        connection.exec_driver_sql(f'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "{role}"')
    try:
        with Bus(make_application(), owners.engine.url.set(username=role, password="p")) as bus:
            for refused in (
                lambda: archived(bus, end, tmp_path / "a"),
                lambda: attach(bus, tmp_path / "one", operator=True, watch=nobody),
                lambda: prune(bus, operator=True, watch=nobody),
            ):
                with pytest.raises(PermissionDenied, match=f"by the owner of its tables, .*{role}"):
                    refused()
            assert [each.name for each in tmp_path.iterdir()] == ["one"]
    finally:
        with owners.engine.begin() as connection:
            connection.exec_driver_sql(f'DROP OWNED BY "{role}"')
            connection.exec_driver_sql(f'DROP ROLE "{role}"')


def test_of_several_archives_the_others_are_told_too(bus: Bus, tmp_path: Path) -> None:
    archived(bus, 2, tmp_path / "one")
    with pytest.raises(HistoryArchived) as only:
        list(bus.journal.read(1))
    assert "others" not in str(only.value)
    archived(bus, 4, tmp_path / "two")
    with pytest.raises(HistoryArchived, match=rf"{tmp_path / 'two'} \(before position 2 in others: "):
        list(bus.journal.read(3))


def test_whoever_asks_for_an_archived_action_is_told_where_it_is(bus: Bus, tmp_path: Path) -> None:
    action = bus.journal.tail(1, kind="outcome")[0]
    bus.execute("deposit", {"id": 1})
    archived(bus, place_at(bus.journal, action.position).upto, tmp_path / "a")
    where = f"archived in {tmp_path / 'a'}"
    with pytest.raises(InvalidArguments, match=where):
        bus.runner("ann").revert(action.action_id)
    with pytest.raises(ReplayError, match=where):
        whole(bus.journal, action.action_id)


def test_a_bisect_does_not_say_never_of_what_is_archived(bus: Bus, tmp_path: Path) -> None:
    archived(bus, 4, tmp_path / "a")
    where = f"archived in {tmp_path / 'a'}"
    never = bus.history.bisect_row("accounts", 1, "balance", 0).note
    assert never.startswith("balance never had that value since position 4; ")
    assert where in never
    with pytest.raises(HistoryError, match=f"where the search begins; .*{where}"):
        bus.history.bisect("SELECT balance > 0 FROM accounts")
    with pytest.raises(HistoryError, match="where the search begins; begin earlier"):
        bus.history.bisect("SELECT balance > 1 FROM accounts", good=6)
    assert bus.history.bisect("SELECT balance > 1 FROM accounts").source is not None


def test_operations_of_the_bus_are_not_told_to_be_gone(bus: Bus, tmp_path: Path) -> None:
    archived(bus, 4, tmp_path / "a")
    attach(bus, tmp_path / "a", operator=True, watch=nobody)
    with Replayer(bus.journal, make_application()) as replayer:
        found = {each.record.action: (each.verdict, each.why) for each in replayer.verify()}
    for name in ("archive_history", "attach_archive"):
        assert found.pop(name) == ("retired", f"{name} is an operation of the bus itself, which no replay runs again")
    assert {verdict for verdict, _ in found.values()} == {"same"}


def test_one_process_alone_is_at_a_folder(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one is writing, or has written and is about to decide on, no other removes, takes, or puts in its place."""
    export, operate = transfer.export, bus.operate
    seen: list[str] = []

    def meanwhile() -> None:
        with monkeypatch.context() as patched, Bus(make_application(), bus.engine.url) as other:
            patched.setattr(transfer, "export", export)
            with pytest.raises(ReplayError, match="somebody else archives into") as raised:
                archived(other, 4, tmp_path / "a")
        seen.append(str(raised.value).split()[4])

    def exported(*given: Any, **named: Any) -> int:
        meanwhile()
        return export(*given, **named)

    def operated(*given: Any, **named: Any) -> Any:
        meanwhile()
        return operate(*given, **named)

    monkeypatch.setattr(transfer, "export", exported)
    monkeypatch.setattr(bus, "operate", operated)
    assert archived(bus, 4, tmp_path / "a").state == "removed"
    assert seen == [str(tmp_path / "a.partial"), str(tmp_path / "a")]
    monkeypatch.undo()
    attach(bus, tmp_path / "a", operator=True, watch=nobody)


def test_a_folder_that_is_put_in_the_place_of_what_was_written_is_not_taken(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where folders cannot be locked, another database may archive into the same one."""
    archived(bus, 2, tmp_path / "other")
    rename = Path.rename

    def renamed(path: Path, to: Path) -> Path:
        shutil.rmtree(path)
        shutil.copytree(tmp_path / "other", path)
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(ReplayError, match="is not what was written there"):
        archived(bus, 4, tmp_path / "a")
    assert len(list(bus.journal.read(2))) == bus.journal.settled() - 2


def test_a_schema_may_have_any_name(postgres_url: URL, tmp_path: Path) -> None:
    with Bus(make_application(), postgres_url, schema='we"ird ?100%s {home}') as bus:
        bus.create()
        bus.execute("open_account", {"id": 1, "name": "a"})
        bus.execute("deposit", {"id": 1})
        end = bus.journal.settled()
        state = told(bus, end)
        archived(bus, end, tmp_path / "a")
        attach(bus, tmp_path / "a", operator=True, watch=nobody)
        assert told(bus, end) == state
