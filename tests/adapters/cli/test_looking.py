"""How the journal looks to who reads it at a terminal: through a pager, as a graph, on lines by what names an action."""

from __future__ import annotations

import os
import pty
import select
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, Record
from actionbus.adapters.cli.graph import DEEPEST, branches
from tests import processes
from tests.conftest import prepared
from tests.helpers import Run, environment
from tests.shop.app import make_application
from tests.waiting import PATIENCE_S


def at_terminal(url: URL, *words: str, **more: str) -> tuple[int, str]:
    """Run `actionbus …` at a terminal of its own; its status and what it showed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "actionbus", *words]
    env = environment(url) | {"TERM": "xterm"} | more
    running = processes.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, close_fds=True)
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], PATIENCE_S)[0]:
        try:
            read = os.read(ours, 4096)
        except OSError:  # nobody has the other end any more
            break
        if not read:
            break
        shown += read
    os.close(ours)
    return running.wait(PATIENCE_S), shown.decode()


@pytest.fixture
def filled(sqlite_url: URL) -> URL:
    prepared(sqlite_url)
    with Bus(make_application(), sqlite_url) as bus:
        for number in range(30):
            bus.execute("open_account", {"id": number, "name": f"name {number}"})
    return sqlite_url


def test_a_terminal_gets_a_pager_and_its_end_ends_no_command_badly(filled: URL, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text(f'#!/bin/sh\nif [ -n "$READS" ]; then head -n 2; else cat; fi | tee -a {tmp_path}/seen\n')
    pager.chmod(0o700)
    code, shown = at_terminal(filled, "log", PAGER=str(pager))
    seen = (tmp_path / "seen").read_text()
    assert code == 0
    assert seen.count("open_account") == 20
    assert "\x1b[" in seen, "in colours, as a terminal has them"
    assert "open_account" in shown
    (tmp_path / "seen").unlink()
    code, shown = at_terminal(filled, "log", "-n", "30", PAGER=str(pager), READS="little")
    assert (code, "Traceback" in shown, (tmp_path / "seen").read_text().count("open_account")) == (0, False, 2)
    (tmp_path / "seen").unlink()
    for words, without in (
        (["log", "--json"], str(pager)),
        (["log"], "cat"),
        (["log"], ""),
        (["log"], "no-such-pager"),
    ):
        code, shown = at_terminal(filled, *words, PAGER=without)
        assert (code, shown.count("open_account")) == (0, 20)
        assert not (tmp_path / "seen").exists(), "programs read JSON; and who wants no pager has none"


def test_a_graph_draws_what_was_caused_below_its_cause(run: Run, url: URL) -> None:
    with Bus(make_application(), url) as bus:
        outer = bus.execute("call_back")
    lines = run("log", "--graph", "--oneline").stdout.splitlines()
    assert [str(outer.action_id) in line for line in lines] == [True]
    assert run("log", "--graph", "--json", code=2).stderr.strip().endswith("it goes with neither --follow nor --json")


def record(action_id: UUID, cause: UUID | None = None) -> Any:
    return type("R", (), {"action_id": action_id, "cause_id": cause})()


@pytest.mark.parametrize("depth", [1, 3, DEEPEST + 20, 5_000])
def test_a_graph_has_each_record_once_however_deep(depth: int) -> None:
    ids = [uuid4() for _ in range(depth)]
    chain: list[Record] = [record(each, cause) for each, cause in zip(ids, [None, *ids], strict=False)]
    drawn = list(branches([*reversed(chain)]))
    assert [each for _, each in drawn] == chain
    assert max(len(lines) for lines, _ in drawn) <= 2 * DEEPEST + 2
    siblings: list[Record] = [record(ids[0]), *(record(uuid4(), ids[0]) for _ in range(3)), record(uuid4(), uuid4())]
    assert [lines for lines, _ in branches(siblings)] == ["", "├─", "├─", "└─", ""]
