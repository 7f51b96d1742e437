"""Archives where another server took over, or a backup did: a standby refuses by name, promoted it goes on; what was lost
is not taken for what is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, HistoryArchived, JournalUnavailable, OutcomeArchived
from actionbus.core.history.archiving import Removal
from actionbus.core.storage.archives import archives
from actionbus.replay.archives import transfer
from actionbus.replay.archives.archive import archive
from actionbus.replay.archives.attach import attach
from actionbus.replay.errors import ReplayError
from tests.conftest import prepared, query
from tests.replay.archives.history import archived, live, nobody, told
from tests.servers import Server
from tests.shop.app import make_application


def _cut_off(*_given: object, **_named: object) -> None:
    raise KeyboardInterrupt


def _deposits(bus: Bus, count: int) -> None:
    for _ in range(count):
        bus.execute("deposit", {"id": 1})


def test_a_standby_refuses_by_name_and_promoted_it_goes_on(
    server: Server, postgres_url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(postgres_url, recorded=True)
    with Bus(make_application(), postgres_url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"}, actor="ann", idempotency_key="k")
        _deposits(bus, 5)
        middle = bus.journal.settled()
        archived(bus, 4, tmp_path / "one")
        live(bus, 10)
        end = bus.journal.settled()
        states = {position: told(bus, position) for position in (middle, end)}
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Removal, "_remove_records", _cut_off)  # images are gone, records are not
            archive(bus, middle, tmp_path / "two", operator=True, watch=nobody)
    with server.standby() as where:
        there = where.set(database=postgres_url.database)
        with Bus(make_application(), there) as bus:
            _refused(bus, tmp_path, end)
        assert query(there, "SELECT pg_promote()") == [(True,)]
        with Bus(make_application(), there) as bus:
            assert {position: told(bus, position) for position in states} == states
            with pytest.raises(HistoryArchived, match=str(tmp_path / "two")):
                told(bus, 5)
            with pytest.raises(OutcomeArchived):
                bus.execute("open_account", {"id": 1, "name": "a"}, actor="ann", idempotency_key="k")
            bus.execute("deposit", {"id": 1})
            done = archived(bus, middle, tmp_path / "two")
            assert (done.state, done.upto) == ("removed", middle)
            assert {position: told(bus, position) for position in states} == states
            for folder in ("two", "one"):
                attach(bus, tmp_path / folder, operator=True, watch=nobody)
            assert told(bus, middle) == states[middle]
            assert query(there, f"SELECT count(*) FROM journal WHERE position <= {middle}") == [(middle,)]


def _refused(bus: Bus, folder: Path, end: int) -> None:
    """Whatever a standby cannot answer rightly it does not answer."""
    asked: dict[str, Callable[[], Any]] = {
        "state": lambda: bus.history.state(),
        "state at": lambda: bus.history.state(None, end),
        "state archived": lambda: bus.history.state(None, 2),
        "rows": lambda: bus.history.rows("accounts", 1),
        "diff": lambda: bus.history.diff(end - 1, end),
        "bisect": lambda: bus.history.bisect("SELECT balance > 3 FROM accounts"),
        "stats": lambda: bus.journal.stats(),
        "recover": lambda: bus.recover(),
        "export": lambda: transfer.export(bus.journal, folder / "x.gz", history=bus.history),
        "archive": lambda: archive(bus, end, folder / "three", operator=True, watch=nobody),
        "attach": lambda: attach(bus, folder / "two", operator=True, watch=nobody),
        "erase": lambda: bus.erase(1),
    }
    for name, ask in asked.items():
        with pytest.raises(JournalUnavailable, match="standby"):
            pytest.fail(f"{name}: {ask()}")
    assert [each.state for each in archives(bus.backend)] == ["removed", "removing"]
    assert sorted(each.name for each in folder.iterdir()) == ["one", "two"]


def test_a_folder_of_what_was_lost_is_not_taken(
    url: URL, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written and cut off; then a backup is restored, in which other records come to have the same positions."""
    prepared(url, recorded=True)
    with Bus(make_application(), url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
    restored = _backup(url, request, tmp_path)
    with Bus(make_application(), url) as bus:
        _deposits(bus, 3)
        end, folder = bus.journal.settled(), tmp_path / "lost"
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(bus, "operate", _cut_off)
            archive(bus, end, folder, operator=True, watch=nobody)
    with Bus(make_application(), restored) as bus:
        for _ in range(3):
            bus.execute("deposit", {"id": 1, "amount": 70})
        assert bus.journal.settled() == end
        before = told(bus, end), [record.action_id for record in bus.journal.read()]
        with pytest.raises(ReplayError, match="not empty, and holds no archive"):
            archived(bus, end, folder)
        assert (told(bus, end), [record.action_id for record in bus.journal.read()]) == before
        archived(bus, end, tmp_path / "own")
        attach(bus, tmp_path / "own", operator=True, watch=nobody)
        assert told(bus, end) == before[0]


def _backup(url: URL, request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A copy of the database as it is now, as restored from a backup later."""
    if url.get_backend_name() == "sqlite":
        query(url, "PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(str(url.database), tmp_path / "restored.db")
        return url.set(database=str(tmp_path / "restored.db"))
    server: Server = request.getfixturevalue("server")
    restored = server.copy_of(url)
    request.addfinalizer(lambda: server.drop(restored))
    return restored
