"""`actionbus up` and `worker` as trees of processes: all parts run, one that dies comes back, none outlives its parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.library.app import library
from actionbus.projections import Projections
from tests import processes
from tests.adapters.library_tables import prepared_library
from tests.helpers import ROOT, environment
from tests.queued.app import app as application
from tests.waiting import PATIENCE_S, eventually

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the command prints."""
    return tmp_path / "log"


@pytest.fixture
def start(sqlite_url: URL, log: Path) -> Iterator[Start]:
    """Starts commands on the library, and ends what is left of them."""
    prepared_library(sqlite_url)
    started: list[subprocess.Popen[bytes]] = []
    env = environment(sqlite_url) | {
        "ACTIONBUS_APP": "actionbus.adapters.library.app:library",
        "ACTIONBUS_ELASTICSEARCH_URL": "embedded",
        "ACTIONBUS_BROKER_URL": "",
        "PYTHONPATH": str(ROOT),
    }

    def begin(*words: str) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            command = [sys.executable, "-m", "actionbus", *words]
            started.append(processes.Popen(command, env=env, stdout=file, stderr=file, start_new_session=True))
        return started[-1]

    yield begin
    for each in started:
        for process in (*children(each), each):
            try:
                process.kill()
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        each.wait()


def children(parent: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(parent.pid).children()
    except psutil.NoSuchProcess:
        return []


def test_all_parts_run_and_end_when_they_are_told(start: Start, sqlite_url: URL, log: Path) -> None:
    up = start("up", "--port", "0", "--authenticate", "none")
    with Bus(library, sqlite_url) as bus:
        ticket = bus.runner("ana").execute_async("create_kit", {"name": "Icons"})
        outcome = ticket.wait(PATIENCE_S)
        projections = Projections(bus, EmbeddedStore(bus.engine))
        eventually(lambda: bool(projections.status()) and _fed(projections, outcome.position), log.read_text)
    eventually(lambda: "serving http" in log.read_text(), log.read_text)
    address = re.search(r"serving (http://\S+)", log.read_text())
    assert address is not None
    with urllib.request.urlopen(f"{address[1]}/health/live") as answer:
        assert answer.status == 200
    assert "running worker 1, projector, HTTP API" in log.read_text()
    up.send_signal(signal.SIGTERM)
    assert up.wait(PATIENCE_S) == 0, log.read_text()
    assert children(up) == []


def test_it_says_why_there_is_no_api(start: Start, log: Path) -> None:
    up = start("--app", "tests.queued.app:app", "up", "--port", "0")
    eventually(lambda: "no HTTP API: nobody says who sends a request; --authenticate" in log.read_text(), log.read_text)
    up.send_signal(signal.SIGTERM)
    assert up.wait(PATIENCE_S) == 0, log.read_text()


def _fed(projections: Projections, position: int) -> bool:
    return all(each.position >= position for each in projections.status() if each.role == "serving")


def test_a_part_that_is_killed_comes_back(start: Start, sqlite_url: URL, log: Path) -> None:
    worker = start("worker", "-c", "1")
    eventually(lambda: len(children(worker)) == 1, log.read_text)
    [first] = children(worker)
    first.kill()
    eventually(lambda: [each.pid for each in children(worker)] not in ([], [first.pid]), log.read_text)
    with Bus(library, sqlite_url) as bus:
        assert bus.runner("ana").execute_async("create_kit", {"name": "Icons"}).wait(PATIENCE_S).status == "succeeded"
    assert "ended with -9 and is started again" in log.read_text()


def test_no_part_outlives_its_parent(start: Start, log: Path) -> None:
    worker = start("worker", "-c", "2")
    eventually(lambda: len(children(worker)) == 2, log.read_text)
    left = children(worker)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    eventually(lambda: not any(_lives(each) for each in left), log.read_text)


class Standing:
    """A worker that runs an action which hears no signal, with another one behind it."""

    def __init__(self, start: Start, url: URL, log: Path, file: Path, *options: str) -> None:
        with Bus(application, url) as bus:
            runner = bus.runner("ana")
            self.first, self.second = (runner.execute_async("stand_fast", {"file": str(file)}) for _ in range(2))
        self.file, self.url, self.log = file, url, log
        self.process = start("--app", "tests.queued.app:app", "worker", "-c", "1", "--queue", "stay", *options)
        eventually(file.exists, log.read_text)

    def runs(self) -> list[tuple[str | None, int]]:
        """Who has the two, and how many attempts they have cost; of those that have no outcome."""
        with Bus(application, self.url) as bus:
            found = [bus.runs.get(each.action_id) for each in (self.first, self.second)]
        return [(each.worker, each.attempts) for each in found if each is not None]


@pytest.mark.parametrize("asked", [["--grace", "0.2"], ["--grace", "0"]])
def test_what_hears_no_signal_is_ended_when_the_grace_is_over_and_handed_back(
    start: Start, sqlite_url: URL, log: Path, tmp_path: Path, asked: list[str]
) -> None:
    standing = Standing(start, sqlite_url, log, tmp_path / "file", *asked)
    standing.process.send_signal(signal.SIGTERM)
    assert standing.process.wait(PATIENCE_S) == 0
    assert f"did not end, and is killed, which runs stand_fast, action {standing.first.action_id}" in log.read_text()
    assert standing.runs() == [(None, 0), (None, 0)], "it cost no attempt, and nobody begins the next"


def test_a_second_signal_ends_it_and_hands_it_back_too(
    start: Start, sqlite_url: URL, log: Path, tmp_path: Path
) -> None:
    standing = Standing(start, sqlite_url, log, tmp_path / "file", "--grace", "1000")
    standing.process.send_signal(signal.SIGINT)
    waits = f"which runs stand_fast, action {standing.first.action_id}; a second signal ends it at once"
    eventually(lambda: waits in log.read_text(), log.read_text)
    assert standing.process.poll() is None
    standing.process.send_signal(signal.SIGTERM)
    assert standing.process.wait(PATIENCE_S) == 0
    assert standing.runs() == [(None, 0), (None, 0)]


def test_what_ends_within_the_grace_has_its_outcome_and_nothing_is_begun_after_it(
    start: Start, sqlite_url: URL, log: Path, tmp_path: Path
) -> None:
    standing = Standing(start, sqlite_url, log, tmp_path / "file", "--grace", "1000")
    standing.process.send_signal(signal.SIGTERM)
    eventually(lambda: "waiting up to 1000 s for worker 1" in log.read_text(), log.read_text)
    standing.file.with_name("file.go").touch()
    assert standing.process.wait(PATIENCE_S) == 0
    assert standing.runs() == [(None, 0)], "the first one has its outcome, though it kept the signal for itself"


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
