"""Where history begins, after an archive: who still has to read keeps it from going, keys stay, and hostile inputs."""

from __future__ import annotations

import json
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Bus, HistoryArchived, HistoryError, InvalidArguments, OutcomeArchived, PermissionDenied
from actionbus.core.history import archiving
from actionbus.core.history.archiving import Progress, Removal
from actionbus.core.storage import reader
from actionbus.core.storage.archives import Archive, archives
from actionbus.projections import Subscription
from actionbus.projections.delivery import place_of
from actionbus.projections.errors import ProjectionStopped
from actionbus.projections.ledger import Ledger
from actionbus.projections.shared_reading import SharedReading
from actionbus.projections.stops import left_out
from actionbus.projections.subscriptions import Subscriptions
from actionbus.replay.archives import transfer
from actionbus.replay.archives.archive import archive, verify
from actionbus.replay.archives.attach import attach
from actionbus.replay.archives.folders import JOURNAL, MANIFEST
from actionbus.replay.errors import ReplayError
from tests.conftest import BusFactory, query
from tests.helpers import Run, documents
from tests.replay.archives.history import archived, live, nobody, told
from tests.shop.app import make_application
from tests.waiting import eventually


@pytest.fixture
def bus(url: URL) -> Bus:
    """A shop with one account, opened under a key."""
    with Bus(make_application(), url) as bus:
        bus.create()
        bus.execute("open_account", {"id": 1, "name": "a"}, actor="ann", idempotency_key="k")
        for _ in range(3):
            bus.execute("deposit", {"id": 1})
        yield bus


def _end(bus: Bus) -> int:
    """The position of the third outcome."""
    return [each.position for each in bus.journal.read(kind="outcome")][2]


def _records(bus: Bus, upto: int) -> list[object]:
    return query(bus.engine.url, f"SELECT position FROM journal WHERE position <= {upto}")


def test_a_key_that_was_archived_runs_nothing_again(bus: Bus, tmp_path: Path) -> None:
    first = bus.journal.by_key("open_account", "ann", "k")
    assert first is not None
    archived(bus, _end(bus), tmp_path / "a")
    for _ in range(2):
        with pytest.raises(OutcomeArchived, match=str(tmp_path / "a")) as raised:
            bus.execute("open_account", {"id": 1, "name": "a"}, actor="ann", idempotency_key="k")
        assert raised.value.action_id == first.action_id
    with pytest.raises(OutcomeArchived):
        bus.runner("ann").execute_many([("open_account", {"id": 1, "name": "a"}, "k")])
    assert bus.execute("deposit", {"id": 1}, actor="ann", idempotency_key="k").status == "succeeded"
    attach(bus, tmp_path / "a", operator=True, watch=nobody)
    assert bus.execute("open_account", {"id": 1, "name": "a"}, actor="ann", idempotency_key="k").repeated


def test_what_was_asked_before_the_cut_and_ends_after_it_is_whole(bus: Bus, tmp_path: Path) -> None:
    ticket = bus.runner().execute_async("deposit", {"id": 1})
    bus.execute("deposit", {"id": 1})
    done = archived(bus, bus.journal.settled(), tmp_path / "a")
    assert _records(bus, done.upto) == [(bus.journal.submitted(ticket.action_id).position,)]
    outcome = bus.run_queued(ticket.action_id)
    assert outcome is not None
    assert outcome.status == "succeeded"
    assert [each.kind for each in bus.journal.of_action(ticket.action_id)] == ["submitted", "outcome"]
    again = archived(bus, outcome.position, tmp_path / "b")
    assert _records(bus, again.upto) == []
    attach(bus, tmp_path / "b", operator=True, watch=nobody)
    attach(bus, tmp_path / "a", operator=True, watch=nobody)
    assert len(_records(bus, again.upto)) == again.upto


def test_who_has_yet_to_read_keeps_it_from_going(bus: Bus, tmp_path: Path) -> None:
    ledger = Ledger(bus.backend)
    place_of(ledger, "mails", 4)
    with pytest.raises(InvalidArguments, match=r"subscription mails \(at 4\)"):
        archived(bus, _end(bus), tmp_path / "a")
    upto = _end(bus)
    assert len(_records(bus, upto)) == upto
    query(bus.engine.url, f"UPDATE actionbus_checkpoints SET position = {upto}")
    archived(bus, upto, tmp_path / "a")  # the archive that was written is verified and taken
    assert left_out(bus.journal, "notes", 1, after=upto - 2) == set(), "decisions before were heard"
    place_of(ledger, "late")
    states = Subscriptions(bus).status()
    assert [(each.name, each.position) for each in states] == [("late", 0), ("mails", upto)]
    follower = SharedReading(bus.journal).follower(Subscription.wanted())
    with pytest.raises(ProjectionStopped, match="attach"):
        follower.read(0, 10)
    assert [each.position for each in follower.read(upto, 10).records][:2] == [upto + 2, upto + 4]


def test_what_lies_before_is_told_to_be_archived(bus: Bus, tmp_path: Path, run: Run) -> None:
    stats, upto = bus.journal.stats()["records"], _end(bus)
    archived(bus, upto, tmp_path / "a")
    where = str(tmp_path / "a")
    with pytest.raises(HistoryArchived, match=where):
        list(bus.journal.read(3))
    with pytest.raises(HistoryArchived, match=where):
        bus.history.diff(2)
    with pytest.raises(HistoryArchived, match=where):
        bus.history.changes(2)
    assert bus.journal.stats()["records"] == stats + 2, "counts are of all"
    assert where in run("show", "2", code=2).stderr
    assert where in run("log", "-n", "50").stderr
    assert (
        f"counts are of all there ever were; history before position {upto} is archived"
        in run("journal", "stats").stderr
    )
    assert where in run("history", "rows", "accounts", "1", "--at", "3", code=1).stderr
    [first, *_] = bus.history.rows("accounts", 1).changes
    assert (first.operation, first.after and first.after["balance"]) == ("baseline", 2)
    assert first.who.shown()["action"] == "archive_history"
    [listed] = documents(run("history", "archives", "--json"))
    assert (listed["upto"], listed["state"], listed["folder"]) == (upto, "removed", where)


def test_positions_and_folders_that_will_not_do(bus: Bus, tmp_path: Path) -> None:
    for upto in (10_000, 0, -5):
        with pytest.raises(HistoryError, match=r"settled|nothing to archive"):
            archived(bus, upto, tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(ReplayError, match="not empty"):
        archived(bus, _end(bus), tmp_path / "full")
    (tmp_path / "b.partial").mkdir()
    (tmp_path / "b.partial" / "mine.txt").write_text("x")
    with pytest.raises(ReplayError, match="in the way"):
        archived(bus, _end(bus), tmp_path / "b")
    with pytest.raises(ReplayError, match="there is no folder"):
        archived(bus, _end(bus), tmp_path / "no" / "such")
    with pytest.raises(PermissionDenied):
        archive(bus, _end(bus), tmp_path / "c", actor="mallory", watch=nobody)
    assert [(tmp_path / "full" / "mine.txt").read_text(), len(_records(bus, 7)) > 5] == ["x", True]
    assert not (tmp_path / "c").exists(), "all that happened lies about in a folder that no list has"


def test_a_full_disk_leaves_nothing_and_takes_nothing(bus: Bus, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if bus.journal.dialect == "sqlite":
        query(bus.engine.url, "PRAGMA wal_checkpoint(TRUNCATE)")
    write = transfer.gzip.open

    def short(*given: object, **named: object) -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
        return write(*given, **named)  # type: ignore[call-overload]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(transfer.gzip, "open", short)
        try:
            with pytest.raises(ReplayError, match=r"large.*nothing was removed"):
                archived(bus, _end(bus), tmp_path / "a")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("a")] == []
    assert len(_records(bus, 6)) == 6


def test_nobody_but_its_owner_may_read_an_archive(make_sqlite_bus: BusFactory, tmp_path: Path) -> None:
    """It holds what the tables held, in clear, whatever the umask lets others do."""
    bus, usual = make_sqlite_bus(), os.umask(0)
    try:
        bus.execute("open_account", {"id": 1, "name": "a"})
        (tmp_path / "a").mkdir()  # an empty one may be there
        archived(bus, bus.journal.settled(), tmp_path / "a")
    finally:
        os.umask(usual)
    modes = {each.name: oct(each.stat().st_mode & 0o777) for each in (tmp_path / "a", *(tmp_path / "a").iterdir())}
    assert modes == {"a": "0o700", JOURNAL: "0o600", MANIFEST: "0o600"}


def test_a_file_that_was_altered_is_named(bus: Bus, tmp_path: Path) -> None:
    archived(bus, _end(bus), tmp_path / "a")
    path = tmp_path / "a" / JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ReplayError, match=f"{path}.*sha256"):
        attach(bus, tmp_path / "a", operator=True, watch=nobody)
    path.write_bytes(whole)
    manifest = json.loads((tmp_path / "a" / MANIFEST).read_text())
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(manifest | {"records": 5}))
    with pytest.raises(ReplayError, match="says otherwise"):
        verify(tmp_path / "a", nobody)
    (tmp_path / "a" / MANIFEST).write_text("{")
    with pytest.raises(ReplayError, match="is no archive"):
        attach(bus, tmp_path / "a", operator=True, watch=nobody)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM journal",
        "DELETE FROM actionbus_images",
        "UPDATE actionbus_images SET operation = 'b'",
        "DELETE FROM actionbus_archives",
        "UPDATE actionbus_archives SET upto = 99",
    ],
)
def test_nothing_else_may_be_removed(bus: Bus, tmp_path: Path, sql: str) -> None:
    archived(bus, 4, tmp_path / "a")
    with pytest.raises(Exception, match=r"append-only|on record for good"):
        query(bus.engine.url, sql)


def test_a_new_process_knows_where_history_begins_while_others_write(
    make_postgres_bus: BusFactory, tmp_path: Path
) -> None:
    bus = make_postgres_bus()
    for number in range(3):
        bus.execute("open_account", {"id": number, "name": f"{number}"})
    end = bus.journal.settled()
    archived(bus, end, tmp_path / "a")
    with bus.engine.connect() as other:
        other.execute(
            text(
                "INSERT INTO journal (action_id, kind, action, correlation_id) VALUES (gen_random_uuid(), 'submitted', 'x', 'x')"
            )
        )
        with Bus(make_application(), bus.engine) as late:
            assert late.journal.settled() == end + 2
            assert late.history.basis(end).position == end


def test_whoever_keeps_records_from_going_is_named(
    make_postgres_bus: BusFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An open transaction that could have taken a key that is archived; nobody sees why else the command stands still."""
    bus = make_postgres_bus()
    bus.execute("open_account", {"id": 1, "name": "a"})
    end = bus.journal.settled()
    monkeypatch.setattr(reader, "_TOLD_AFTER_S", 0.0)
    with bus.engine.connect() as other, ThreadPoolExecutor() as pool:
        other.execute(text("LOCK TABLE journal IN ROW EXCLUSIVE MODE"))
        pid, _ = other.execute(text("SELECT pg_backend_pid(), pg_current_xact_id()")).one()
        going = pool.submit(archived, bus, end, tmp_path / "a")
        try:
            eventually(lambda: str(pid) in caplog.text, "it says whom it waits for")
            assert not going.done()
        finally:
            other.rollback()
        assert going.result().state == "removed"
    assert [each.levelname for each in caplog.records if str(pid) in each.getMessage()] == ["WARNING"]


def test_two_may_remove_at_once(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever archives goes on with what is being removed by somebody else, who may come to its end first."""
    run, late = Removal.run, Removal(bus.journal)

    def twice(removal: Removal, archive: Archive, progress: Progress) -> None:
        [found] = late.unfinished()
        run(removal, archive, progress)
        run(late, found, progress)

    upto = _end(bus)
    state = told(bus, upto)
    with monkeypatch.context() as patched:
        patched.setattr(Removal, "run", twice)
        assert archived(bus, upto, tmp_path / "a").state == "removed"
    assert (told(bus, upto), _records(bus, upto)) == (state, [])
    attach(bus, tmp_path / "a", operator=True, watch=nobody)
    assert len(_records(bus, upto)) == upto


def test_it_is_gone_on_with_after_its_records_are_gone(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its last step: which shapes there were nobody can be asked any more whose record has gone."""
    live(bus, 20)
    upto = bus.journal.settled()
    live(bus, 10, seed=2)
    end = bus.journal.settled()

    def cut_off(*_given: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(archiving, "set_state", cut_off)
        archived(bus, upto, tmp_path / "a")
    upto = archives(bus.backend)[-1].upto
    states = {position: told(bus, position) for position in range(upto, end + 1)}
    assert archived(bus, upto, tmp_path / "a").state == "removed"
    assert {position: told(bus, position) for position in states} == states
    again = archived(bus, end, tmp_path / "b")
    assert told(bus, again.upto) == states[again.upto]
