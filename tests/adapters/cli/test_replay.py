"""`actionbus replay` and `journal export | import`, as a user meets them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters.cli import replay_jobs
from actionbus.replay.past.slices import slices
from tests import processes
from tests.helpers import ROOT, TOOL, Run, documents, environment, run_pytest
from tests.replay.conftest import fill
from tests.servers import Server
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where replays keep their files; sandboxes on PostgreSQL are on the tests' own server."""
    monkeypatch.setenv("ACTIONBUS_REPLAY", str(tmp_path / "replay"))
    return tmp_path / "replay"


@pytest.fixture
def cli(run: Run, url: URL, monkeypatch: pytest.MonkeyPatch) -> Run:
    """On a journal with a history; with `--sandbox` on the tests' server where the journal is on PostgreSQL."""
    with Bus(make_application(), url) as bus:
        bus.create()
        fill(bus)
        bus.execute("notify", {"to": "ann"}, actor="ann")
    if url.get_backend_name() == "postgresql":
        sandboxes = url.set(database="postgres").render_as_string(hide_password=False)
        monkeypatch.setenv("ACTIONBUS_SANDBOX_URL", sandboxes)
    return run


def test_verify(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = cli("replay", "verify", "--all")
    assert done.stdout == ""
    assert "10 actions: 10 same, 0 divergent, 0 concurrent, 0 order, 0 retired, 0 unplayable" in done.stderr
    from tests.shop.actions.withdraw import Withdraw

    monkeypatch.setattr(Withdraw, "execute", lambda self: {"balance": -1})
    done = cli("replay", "verify", "--all", code=1)
    assert "divergent transfer at" in done.stdout
    assert "divergent withdraw at" in done.stdout
    assert "result.balance: recorded 29, now -1" in done.stdout
    assert "accounts[3]: recorded " in done.stdout
    found = documents(cli("replay", "verify", "--json", "--action", "withdraw", code=1))
    assert [each["action"] for each in found] == ["withdraw"]
    fields = {each["field"]: each for each in found[0]["differences"]}
    assert fields["result.balance"]["recorded"] == 29
    report = cli("replay", "verify", "--format", "junit", code=1).stdout
    suite = ElementTree.fromstring(report)
    assert suite.get("failures") == "2"
    assert len(suite.findall("testcase/failure")) == 2
    done = cli("replay", "verify", "--action", "withdrew", code=2)
    assert "there is no action 'withdrew', nor was there one" in done.stderr
    first = documents(cli("log", "--action", "open_account", "--json"))[0]["action_id"]
    done = cli("replay", "verify", "--to", first)
    assert "1 action: 1 same" in done.stderr


def test_slices_of_history_say_what_the_whole_says(cli: Run, url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nested records, or what an action did before its outcome, may lie at a cut."""
    with Bus(make_application(), url) as bus:
        with monkeypatch.context() as then:
            then.setattr(CallBack, "function", lambda handler: "what the code does no more")
            bus.execute("call_back")
        bus.execute("transfer", {"source": 2, "target": 1, "amount": 1})
        end = bus.journal.last()
        for number in range(1, 9):
            parts = slices(bus.journal, 0, end, number)
            assert [low for low, _ in parts[1:]] == [high for _, high in parts[:-1]]
            assert (parts[0][0], parts[-1][1]) == (0, end)
    processes.template()
    monkeypatch.setattr(replay_jobs.subprocess, "Popen", processes.Popen)  # each slice is a command of its own
    for form in ([], ["--json"], ["--format", "junit"]):
        whole = cli("replay", "verify", "--all", *form, code=1)
        parted = cli("replay", "verify", "--all", *form, "--jobs", "3", code=1)
        assert parted.stdout == whole.stdout
        assert whole.stderr.splitlines()[-1:] == parted.stderr.splitlines()[-1:]


def test_run_shows_each_action(cli: Run) -> None:
    shown = cli("replay", "run", "--changes").stdout
    assert "insert accounts 1  id: 1, name: n1, balance: 0" in shown
    assert "update accounts 1  balance: 0 → 10" in shown
    assert "10 actions run again: as history has it" in cli("replay", "run", "--all").stderr
    found = documents(cli("replay", "run", "--json", "--all"))
    assert {each["status"] for each in found} == {"succeeded", "failed"}
    transfer = next(each for each in found if each["action"] == "transfer")
    assert {(each["table"], each["operation"]) for each in transfer["changes"]} == {
        ("accounts", "update"),
        ("entries", "insert"),
    }


def test_fork(cli: Run, tmp_path: Path) -> None:
    deposit = next(
        each for each in documents(cli("log", "--action", "deposit", "--json")) if each["arguments"]["id"] == 2
    )
    told = cli("replay", "fork", "--skip", deposit["action_id"]).stdout
    assert "deposit  succeeded → left out" in told
    assert "transfer  succeeded → failed" in told
    edited = documents(cli("replay", "fork", "--edit", f"{deposit['action_id']}:amount=21", "--json"))
    rows = [each["row"] for each in edited if "row" in each]
    assert ("accounts", 16) in {(row["table"], row["after"].get("balance")) for row in rows}
    file = tmp_path / "more.jsonl"
    file.write_text('{"action": "deposit", "arguments": {"id": 3}, "after": "end", "actor": "eve"}\n')
    assert "was not there → succeeded" in cli("replay", "fork", "--insert", str(file)).stdout
    fake = cli("replay", "fork", "--with", "mailer=tests.adapters.cli.test_replay:Fake").stdout
    assert "result.receipt" in fake
    cli("replay", "fork", "--edit", "nonsense", code=2)
    assert "is no" in cli("replay", "fork", "--with", "mailer=nowhere:Fake", code=1).stderr


class Fake:
    """A mailer that sends nothing."""

    def send(self, to: str, text: str) -> str:
        return "fake"


def test_export_and_import(cli: Run, url: URL, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "journal.gz"
    assert "records in" in cli("journal", "export", str(file)).stdout
    laptop = (
        server.database()
        if url.get_backend_name() == "postgresql"
        else URL.create("sqlite", database=str(tmp_path / "laptop.db"))
    )
    monkeypatch.setenv("ACTIONBUS_DATABASE_URL", laptop.render_as_string(hide_password=False))
    cli("db", "upgrade")
    cli("journal", "import", str(file))
    assert "10 actions: 10 same" in cli("replay", "verify", "--all").stderr, "from the history that came along"
    assert "is not empty" in cli("journal", "import", str(file), code=1).stderr
    if url.get_backend_name() == "postgresql":
        server.drop(laptop)


def test_debug_stops_at_the_handlers_first_line(cli: Run, url: URL, folder: Path) -> None:
    transfer = documents(cli("log", "--action", "transfer", "--json"))[0]["action_id"]
    done = debugged(url, transfer, "p self.args.amount\nn\nc\n")
    assert "execute()\n-> try:" in done.stdout
    assert "(Pdb)" in done.stdout
    assert "transfer succeeded; as history has it" in done.stdout
    failed = documents(cli("log", "--status", "failed", "--json"))[0]["action_id"]
    done = debugged(url, failed, "p self.args.amount\nq\n", "--post-mortem")
    assert "1000" in done.stdout
    assert "withdraw failed; as history has it" in done.stdout
    hooked = debugged(url, transfer, "", PYTHONBREAKPOINT="tests.adapters.cli.test_replay.hook")
    assert "the hook was called" in hooked.stdout


def hook() -> None:
    print("the hook was called")


def debugged(url: URL, action_id: str, stdin: str, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    done = processes.run(
        [*TOOL, "replay", "debug", action_id, *options],
        env={**os.environ, **environment(url), **more},
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_plain_breakpoint_in_application_code_works(cli: Run, url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.shop.actions.deposit import Deposit

    stopped: list[Any] = []
    old = Deposit.execute

    def execute(self: Deposit) -> Any:
        breakpoint()
        return old(self)

    monkeypatch.setattr(Deposit, "execute", execute)
    monkeypatch.setattr(sys, "breakpointhook", lambda *args, **kwargs: stopped.append(sys._getframe(1).f_code.co_name))
    cli("replay", "verify")
    assert stopped == ["execute"] * 4, "three deposits and a nested one"


def test_export_test(cli: Run, tmp_path: Path) -> None:
    transfer = documents(cli("log", "--action", "transfer", "--json"))[0]["action_id"]
    path = tmp_path / "test_exported.py"
    assert "on 2 rows" in cli("replay", "export-test", transfer, "--to", str(path)).stdout
    assert run_pytest(path) == 0


def test_run_says_where_it_parts_from_history(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.shop.actions.deposit import Deposit

    old = Deposit.execute

    def execute(self: Deposit) -> Any:
        done = old(self)
        if self.args.amount == 20:
            self.repo.account(self.args.id).balance -= 19
        return done

    monkeypatch.setattr(Deposit, "execute", execute)
    done = cli("replay", "run")
    assert "accounts[2].balance: recorded 20, now 1" in done.stdout
    assert "parts from history at" in done.stderr
    assert "deposit" in done.stderr
    assert "status: recorded succeeded, now failed" in done.stdout, "the transfer has nothing to transfer now"
    done = cli("replay", "verify", code=1)
    assert "1 divergent" in done.stderr, "on what was recorded before it, the transfer is as it was"


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_sandbox_of_another_kind_is_refused(cli: Run) -> None:
    done = cli("replay", "verify", "--sandbox", "sqlite://", code=1)
    assert "the journal is on PostgreSQL, so the sandbox must be too" in done.stderr
