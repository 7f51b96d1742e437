"""`actionbus replay open`: a copy of the tables as they were, kept or gone with Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

from actionbus import Bus
from actionbus.adapters.cli import replay_open
from tests.conftest import query
from tests.helpers import ROOT, Run, documents, environment
from tests.replay.conftest import fill
from tests.servers import Server
from tests.shop.app import make_application


@pytest.fixture
def cli(run: Run, url: URL, monkeypatch: pytest.MonkeyPatch) -> Run:
    """On a journal with a history, and a server for copies where it is on PostgreSQL."""
    with Bus(make_application(), url) as bus:
        bus.create()
        fill(bus)
        bus.execute("open_account", {"id": 50, "name": "later"})
    if url.get_backend_name() == "postgresql":
        sandboxes = url.set(database="postgres").render_as_string(hide_password=False)
        monkeypatch.setenv("ACTIONBUS_SANDBOX_URL", sandboxes)
    return run


def accounts(url: URL) -> int:
    return int(query(url, "SELECT count(*) FROM accounts")[0][0])


def test_a_copy_is_as_it_was_and_the_lines_that_are_printed_work(cli: Run, url: URL, server: Server) -> None:
    with Bus(make_application(), url) as bus:
        at = next(each.position for each in bus.journal.read(action="open_account", kind="outcome"))
    (told,) = documents(cli("replay", "open", "--at", str(at), "--keep", "--json"))
    copies = [make_url(told["url"])]
    assert accounts(copies[0]) == 1
    query(copies[0], "INSERT INTO accounts VALUES (7, 'in the copy', 1)")
    shown = cli("replay", "open", "--keep").stdout.splitlines()
    copies.append(make_url(shown[0]))
    assert accounts(copies[1]) == accounts(url)
    line = next(each for each in shown if each.strip().startswith("python -c "))
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True, env=env)
    assert "accounts" in done.stdout
    for each in copies:
        if each.get_backend_name() == "postgresql":
            server.drop(each)


@pytest.mark.parametrize("line", [1, 2, 3])
def test_ctrl_c_while_it_is_told_of_ends_it_as_well(cli: Run, monkeypatch: pytest.MonkeyPatch, line: int) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if len(said) == line:
            raise KeyboardInterrupt

    monkeypatch.setattr(replay_open, "say", say)
    assert "gone" in cli("replay", "open").stderr
    with pytest.raises(OperationalError):
        accounts(make_url(said[0]))


def test_it_is_gone_with_ctrl_c(cli: Run, url: URL) -> None:
    command = [sys.executable, "-m", "actionbus", "replay", "open"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(url), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        copy = make_url(running.stdout.readline().strip())
        assert accounts(copy) == accounts(url)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
    with pytest.raises(OperationalError):
        accounts(copy)
    if copy.database and copy.get_backend_name() == "sqlite":
        assert not Path(copy.database).exists()
