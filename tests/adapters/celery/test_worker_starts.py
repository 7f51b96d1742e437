"""A worker that is told to stop while it starts, or that cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy.engine import URL

from tests import processes
from tests.adapters.celery.workers import Workers
from tests.conftest import prepared
from tests.helpers import ROOT
from tests.servers import Redis, free_port

STOPPING = """
import os, signal, sys

MAIN, PHASE = os.getpid(), os.environ["PHASE"]


def stop(**_):
    os.kill(MAIN, signal.SIGTERM)


class Importing:
    def find_spec(self, name, path=None, target=None):
        if name == PHASE:
            stop()


sys.meta_path.insert(0, Importing())
if PHASE == "application":
    stop()
elif PHASE and "." not in PHASE:
    import celery.signals

    getattr(celery.signals, PHASE).connect(stop, weak=False)

from tests.shop.app import make_application

app = make_application()
"""
PHASES = [
    "application",
    "tests.shop.actions.deposit",
    "celery.app.log",
    "celery.apps.worker",
    "celery.worker.consumer",
    "celeryd_init",
    "worker_init",
    "celeryd_after_setup",
    "worker_before_create_process",
    "worker_process_init",
    "worker_ready",
]


@pytest.fixture
def workers(sqlite_url: URL, redis: Redis, tmp_path: Path) -> Iterator[Workers]:
    prepared(sqlite_url)
    (tmp_path / "stopping.py").write_text(STOPPING)
    found = Workers(sqlite_url, redis, tmp_path / "worker.log")
    found.environment |= {"PYTHONPATH": f"{tmp_path}:{ROOT}", "ACTIONBUS_APP": "stopping:app"}
    yield found
    found.close()


@pytest.mark.parametrize("phase", PHASES)
def test_sigterm_while_a_worker_starts_is_a_clean_stop(workers: Workers, phase: str) -> None:
    workers.environment["PHASE"] = phase
    if phase == "application" or "." in phase:  # what these imports are interrupted in must not be there already
        workers.popen = subprocess.Popen
    worker = workers.start()
    assert worker.wait(60) == 0, workers.told()
    assert "Traceback" not in workers.told()
    assert _left_of(worker.pid) == []


def test_sigterm_while_the_broker_is_away_is_a_clean_stop(workers: Workers) -> None:
    workers.environment |= {"PHASE": "", "ACTIONBUS_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    worker = workers.start()
    workers.until(lambda: "Cannot connect" in workers.told())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0, workers.told()
    assert _left_of(worker.pid) == []


def _left_of(leader: int) -> list[psutil.Process]:
    """Processes of a session whose leader has ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


UNUSABLE = {
    "no such broker": "nosuch://x",
    "no scheme": "localhost",
    "not of celery": "http://localhost",
    "a port that is none": "redis://localhost:port",
    "a password with a slash": "redis://:se/cret@localhost",
    "a database that is none": "redis://localhost/x",
    "a second that is none": "redis://localhost;nosuch://x",
    "a library that is missing": "sqs://",
}


@pytest.mark.parametrize("broker", UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("command", [["worker"], ["run", "call_back", "--async"]], ids=["worker", "run"])
def test_a_broker_that_is_none_is_told_in_a_sentence(sqlite_url: URL, broker: str, command: list[str]) -> None:
    prepared(sqlite_url)
    env = os.environ | {
        "ACTIONBUS_APP": "tests.adapters.shop_app:app",
        "ACTIONBUS_DATABASE_URL": f"sqlite:///{sqlite_url.database}",
        "PYTHONPATH": str(ROOT),
    }
    started = [sys.executable, "-m", "actionbus", "--broker", broker, *command]
    done = processes.run(started, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--broker" in done.stderr
    assert ("needs what is not installed" if broker == "sqs://" else "not a broker's URL") in done.stderr
    assert "Traceback" not in done.stderr
    assert "cret" not in done.stderr
