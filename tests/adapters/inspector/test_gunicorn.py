"""The inspector inside of an application under gunicorn, of several workers: whichever is asked, it is one inspector."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from actionbus import Bus
from tests import processes
from tests.adapters.inspector.inn.app import inn
from tests.adapters.inspector.inn.story import tell
from tests.helpers import ROOT
from tests.waiting import PATIENCE_S, eventually

WORKERS = 3


class Told(NamedTuple):
    """An answer."""

    status: int
    worker: int
    text: str

    def json(self) -> Any:
        """Its body as JSON."""
        return json.loads(self.text)


class Gunicorn:
    """A running one; each request is a connection of its own, which any worker may take."""

    def __init__(self, process: processes.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def connected(self) -> http.client.HTTPConnection:
        """A new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(self, path: str, method: str = "GET", **given: str) -> Told:
        """An answer to the manager."""
        connection = self.connected()
        headers = {"X-Actor": "manager", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(given) if given else None, headers)
        answer = connection.getresponse()
        told = Told(answer.status, int(answer.headers["X-Worker"]), answer.read().decode())
        connection.close()
        return told

    def other_than(self, worker: int, path: str) -> Told:
        """An answer of another worker."""
        found: list[Told] = []

        def another() -> bool:
            found.append(self.ask(path))
            return found[-1].worker != worker

        eventually(another, "another worker answers")
        return found[-1]


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """Which loads the application once, and forks."""
    folder: Path = tmp_path_factory.mktemp("gunicorn")
    url, log = f"sqlite:///{folder / 'inn.db'}", folder / "log"
    with Bus(inn, url) as bus:
        bus.create()
        tell(bus)
    env = os.environ | {
        "ACTIONBUS_DATABASE_URL": url,
        "INN_JOBS": str(folder / "jobs"),
        "PYTHONPATH": str(ROOT),
    }
    options = ["--preload", f"--workers={WORKERS}", "--threads=4", "--bind=127.0.0.1:0", "--graceful-timeout=2"]
    line = [sys.executable, "-m", "gunicorn", *options, "tests.adapters.inspector.inn.web:made()"]
    with log.open("wb") as out:
        process: processes.Popen[bytes] = processes.Popen(line, env=env, cwd=ROOT, stdout=out, stderr=out)
    try:
        listening = eventually(
            lambda: re.search(r"Listening at: http://127.0.0.1:(\d+)", log.read_text()), log.read_text
        )
        yield Gunicorn(process, int(listening[1]))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_pages_are_the_same_of_whichever_worker(gunicorn: Gunicorn) -> None:
    first = gunicorn.ask("/inspector/actions/23")
    other = gunicorn.other_than(first.worker, "/inspector/actions/23")
    assert (first.status, other.status) == (200, 200)
    assert first.text == other.text
    assert "reprice" in first.text


def test_a_job_is_watched_from_another_worker_and_outlives_its_own(gunicorn: Gunicorn) -> None:
    begun = gunicorn.ask(
        "/history/jobs", "POST", kind="bisect", table="reservations", key="r-dora", column="price", value="720"
    )
    assert begun.status == 202
    where = f"/inspector/jobs/{begun.json()['id']}"
    os.kill(begun.worker, signal.SIGKILL)  # as the kernel may, when memory is short
    page: list[Told] = []

    def has_ended() -> bool:
        page.append(gunicorn.other_than(begun.worker, where))
        return 'data-state="running"' not in page[-1].text

    eventually(has_ended, lambda: page[-1].text)
    assert 'data-state="done"' in page[-1].text
    assert "position 23" in page[-1].text
    eventually(lambda: len({gunicorn.ask("/inspector/jobs").worker for _ in range(WORKERS)}) > 1, "others serve on")


def test_a_tail_of_one_worker_shows_what_another_did(gunicorn: Gunicorn) -> None:
    connection = gunicorn.connected()
    connection.request("GET", "/inspector/tail?actor=manager", headers={"X-Actor": "manager"})
    answer = connection.getresponse()
    worker = int(answer.headers["X-Worker"])
    lines: list[str] = []

    def reserved() -> bool:
        told = gunicorn.ask("/actions/reserve", "POST", id=f"g{len(lines)}", guest="Gunnar")
        lines.append(told.text)
        return told.worker != worker

    eventually(reserved, "another worker does something")
    wanted = json.loads(lines[-1])["position"]
    while f'data-position="{wanted}"' not in (line := answer.readline().decode()):
        assert line, "the stream goes on"
    connection.close()
