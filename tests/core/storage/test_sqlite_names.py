"""Whatever a SQLite database is called by, it is one database: what runs in it is seen under every name."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool

from actionbus import Bus, ConfigurationError, JournalUnavailable
from actionbus.core.storage.sqlite_url import file_of
from tests import processes
from tests.conftest import prepared
from tests.helpers import ROOT
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Base, make_application

NAMES: dict[str, Callable[[Path], str]] = {
    "the same": lambda folder: f"sqlite:///{folder}/data/shop.db",
    "a relative path": lambda folder: f"sqlite:///{os.path.relpath(folder / 'data' / 'shop.db')}",
    "a path with dots": lambda folder: f"sqlite:///{folder}/data/../data/shop.db",
    "a link to the file": lambda folder: f"sqlite:///{folder}/link.db",
    "a link to a link": lambda folder: f"sqlite:///{folder}/link-of-link.db",
    "a link to the folder": lambda folder: f"sqlite:///{folder}/current/shop.db",
    "a URI": lambda folder: f"sqlite:///file:{folder}/data/shop.db?uri=true",
    "a URI with an authority": lambda folder: f"sqlite:///file://{folder}/data/shop.db?uri=true",
    "a URI of a link": lambda folder: f"sqlite:///file:{folder}/link.db?mode=rwc&uri=true",
    "a URI with escapes": lambda folder: f"sqlite:///file:{folder}/data/%73hop.db?uri=true",
}
IN_MEMORY = [
    "sqlite://",
    "sqlite:///:memory:",
    "sqlite:///file:mm?mode=memory&cache=shared&uri=true",
    "sqlite:///file:mm?mode=memory&uri=true",
    "sqlite:///file::memory:?cache=shared&uri=true",
    "sqlite:///file::memory:?uri=true",
    "sqlite:///file:/mdb?vfs=memdb&uri=true",
    "sqlite:///file:?uri=true",
]
RECOVER = (
    "import sys; from datetime import timedelta; from actionbus import Bus; from tests.shop.app import make_application\n"
    "with Bus(make_application(), sys.argv[1]) as bus:\n    found = bus.recover(timedelta(0))\n"
    "    print(len(found.interrupted), len(found.running), len(found.settled_meanwhile))"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A database, and links to it."""
    (tmp_path / "data").mkdir()
    prepared(make_url(f"sqlite:///{tmp_path}/data/shop.db"))
    (tmp_path / "link.db").symlink_to("data/shop.db")
    (tmp_path / "link-of-link.db").symlink_to("link.db")
    (tmp_path / "current").symlink_to("data")
    return tmp_path


@pytest.fixture
def inside(folder: Path) -> Iterator[Callable[[Bus], threading.Event]]:
    """Begins an action, and gives what ends it."""
    with ThreadPoolExecutor(1) as pool:
        begun, over = threading.Event(), threading.Event()

        def wait(handler: CallBack) -> None:
            begun.set()
            over.wait()

        def run(bus: Bus) -> threading.Event:
            pool.submit(bus.execute, "call_back")
            begun.wait()
            return over

        CallBack.function = wait
        yield run
        over.set()
    CallBack.function = lambda handler: None


@pytest.mark.parametrize("where", ["in this process", "in another"])
@pytest.mark.parametrize("name", NAMES)
def test_recovery_by_any_name_sees_what_runs(
    folder: Path, inside: Callable[[Bus], threading.Event], name: str, where: str
) -> None:
    other = NAMES[name](folder)
    with Bus(make_application(), f"sqlite:///{folder}/data/shop.db") as bus, Bus(make_application(), other) as second:
        inside(bus)
        if where == "in this process":
            found = second.recover(timedelta(0))
            assert (len(found.interrupted), len(found.running), len(found.settled_meanwhile)) == (0, 1, 0)
            return
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        told = processes.run([sys.executable, "-c", RECOVER, other], env=env, capture_output=True, text=True)
        assert told.stdout.split() == ["0", "1", "0"], told.stderr


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_the_databases_own_files_appears(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    with Bus(make_application(), NAMES[name](folder)) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in folder.iterdir()} == {"data", "link.db", "link-of-link.db", "current"}
    ours = {"shop.db", "shop.db-running", "shop.db-wal", "shop.db-shm"}
    assert {path.name for path in (folder / "data").iterdir()} <= ours


def test_a_hard_link_is_refused_before_anything_runs(folder: Path) -> None:
    (folder / "hard.db").hardlink_to(folder / "data" / "shop.db")
    for url in (f"sqlite:///{folder}/hard.db", f"sqlite:///{folder}/data/shop.db"):
        with Bus(make_application(), url) as bus:
            with pytest.raises(JournalUnavailable, match="hard link"):
                bus.execute("open_account", {"id": 1, "name": "a"})
            assert list(bus.journal.read()) == []


@pytest.mark.parametrize("url", IN_MEMORY)
def test_what_is_in_memory_leaves_no_file_and_works_from_threads(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Bus(make_application(), url) as bus:
        bus.journal.create()
        Base.metadata.create_all(bus.engine)
        work_from_threads(bus)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_of_ones_own_on_shared_memory_works_from_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "sqlite:///file:own?mode=memory&cache=shared&uri=true"
    engine = create_engine(url, poolclass=QueuePool, connect_args={"check_same_thread": False})
    with engine.connect(), Bus(make_application(), engine) as bus:
        bus.journal.create()
        Base.metadata.create_all(engine)
        work_from_threads(bus)
    engine.dispose()
    assert list(tmp_path.iterdir()) == []


def work_from_threads(bus: Bus) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: bus.execute("open_account", {"id": n, "name": f"{n}"}).status, range(12)))
    assert done == ["succeeded"] * 12
    assert len(list(bus.journal.read())) == 24
    assert bus.recover(timedelta(0)).running == []


def test_a_uri_that_would_be_taken_for_a_files_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="uri=true"):
        Bus(make_application(), "sqlite:///file:mm?mode=memory&cache=shared")


def test_the_path_of_a_uri_is_found_as_sqlite_finds_it() -> None:
    assert file_of(make_url("sqlite:///file:/a%20b/c.db?uri=true")) == "/a b/c.db"
    assert file_of(make_url("sqlite:///file:///a/c.db?uri=true")) == "/a/c.db"
    assert file_of(make_url("sqlite:///file:c.db?uri=true")) == "c.db"
    assert file_of(make_url("sqlite:////a/c.db")) == "/a/c.db"
    assert all(file_of(make_url(url)) is None for url in IN_MEMORY)
