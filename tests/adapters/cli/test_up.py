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


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
