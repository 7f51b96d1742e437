"""`actionbus replay`, `snapshot` and `journal export | import`, as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Bus
from tests import processes
from tests.helpers import ROOT, Run, documents, environment
from tests.replay.conftest import fill
from tests.shop.app import make_application

TOOL = [sys.executable, "-m", "actionbus"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where replays keep their files; sandboxes on PostgreSQL are on the tests' own server."""
    monkeypatch.setenv("ACTIONBUS_REPLAY", str(tmp_path / "replay"))
    return tmp_path / "replay"


@pytest.fixture
def cli(run: Run, url: URL, monkeypatch: pytest.MonkeyPatch) -> Run:
    """On a journal with a history; with `--sandbox` on the tests' server where the journal is on PostgreSQL."""
    with Bus(make_application(), url) as bus:
        fill(bus)
        bus.execute("notify", {"to": "ann"}, actor="ann")
    if url.get_backend_name() == "postgresql":
        sandboxes = url.set(database="postgres").render_as_string(hide_password=False)
        monkeypatch.setenv("ACTIONBUS_SANDBOX_URL", sandboxes)
    return run


def test_verify(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = cli("replay", "verify", "--all")
    assert done.stdout == ""
    assert "10 actions: 10 same, 0 divergent" in done.stderr
    from tests.shop.actions.withdraw import Withdraw

    monkeypatch.setattr(Withdraw, "execute", lambda self: {"balance": -1})
    done = cli("replay", "verify", "--all", code=1)
    assert "divergent transfer at" in done.stdout
    assert "divergent withdraw at" in done.stdout
    assert "expected  29" in done.stdout
    assert "actual    -1" in done.stdout
    found = documents(cli("replay", "verify", "--json", "--action", "withdraw", code=1))
    assert [each["action"] for each in found] == ["withdraw"]
    fields = {each["field"]: each for each in found[0]["differences"]}
    assert fields["result.balance"]["expected"] == 29
    report = cli("replay", "verify", "--format", "junit", code=1).stdout
    suite = ElementTree.fromstring(report)
    assert suite.get("failures") == "2"
    assert len(suite.findall("testcase/failure")) == 2
    done = cli("replay", "verify", "--to", "2")
    assert "1 actions: 1 same" in done.stderr


def test_run_shows_each_action(cli: Run) -> None:
    shown = cli("replay", "run", "--changes").stdout
    assert "insert accounts 1  id: 1, name: n1, balance: 0" in shown
    assert "update accounts 1  balance: 0 → 10" in shown
    found = documents(cli("replay", "run", "--json", "--all"))
    assert {each["status"] for each in found} == {"succeeded", "failed"}
    transfer = next(each for each in found if each["action"] == "transfer")
    assert {(each["table"], each["operation"]) for each in transfer["changes"]} == {
        ("accounts", "update"), ("entries", "insert"),
    }  # fmt: skip


def test_state_diff_and_blame(cli: Run) -> None:
    rows = documents(cli("replay", "state", "--table", "accounts", "--json"))
    assert {each["row"]["name"]: each["row"]["balance"] for each in rows} == {"n1": 15, "n2": 15, "n3": 29}
    rows = documents(cli("replay", "state", "--at", "4", "--table", "accounts", "--json"))
    assert [each["row"]["balance"] for each in rows] == [10]
    assert (
        documents(cli("replay", "state", "--table", "accounts", "--where", "balance > 20", "--json"))[0]["row"]["id"]
        == 3
    )
    told = cli("replay", "state", "--sql", "DELETE FROM entries RETURNING id", "--json").stdout
    assert told.count('"id"') == 6
    assert len(documents(cli("replay", "state", "--table", "entries", "--json"))) == 6, "what it wrote was taken back"
    changes = documents(cli("replay", "diff", "2", "4", "--json"))
    assert [(each["table"], each["operation"]) for each in changes] == [("accounts", "update"), ("entries", "insert")]
    assert "balance: 10 → 0" in cli("replay", "diff", "4", "2", "--table", "accounts").stdout
    blamed = documents(cli("replay", "blame", "accounts", "1", "--json"))
    assert {each["column"]: each["action"] for each in blamed} == {
        "id": "open_account", "name": "open_account", "balance": "transfer",
    }  # fmt: skip
    assert "deposit" in cli("replay", "blame", "accounts", "1", "balance", "--history").stdout
    assert "no action up to position" in cli("replay", "blame", "accounts", "77", code=1).stderr
    assert "no column 'nothing'" in cli("replay", "blame", "accounts", "1", "nothing", code=2).stderr
    assert "there is no table" in cli("replay", "blame", "nothing", "1", code=1).stderr
    assert "is no position" in cli("replay", "state", "--at", "soon", code=1).stderr
    touched = documents(cli("log", "--touching", "accounts:1", "--json"))
    assert {each["action"] for each in touched} >= {"open_account", "deposit"}


def test_the_second_command_finds_the_timeline_of_the_first(cli: Run, folder: Path, url: URL) -> None:
    cli("replay", "state", "--table", "accounts")
    if url.get_backend_name() == "sqlite":
        (made,) = folder.glob("*.db")
        written = made.stat().st_ino
        cli("replay", "diff", "start", "end")
        (again,) = folder.glob("*.db")
        assert again.stat().st_ino == written
        (folder / "shop-000000000000-111111111111.db").touch()


def test_bisect(cli: Run) -> None:
    (found,) = documents(cli("replay", "bisect", "--sql", "SELECT count(*) FROM accounts WHERE id = 2", "--json"))
    assert found["action"] == "open_account"
    told = cli("replay", "bisect", "--sql", "SELECT balance = 15 FROM accounts WHERE id = 2").stdout
    assert told.startswith("transfer at")
    assert "update accounts 2  balance: 20 → 15" in told
    done = cli("replay", "bisect", "--sql", "SELECT count(*) FROM accounts WHERE balance < 0", code=1)
    assert "not detected" in done.stdout
    cli("replay", "bisect", "--sql", "SELECT 1", code=1)
    assert (
        documents(cli("replay", "bisect", "--python", "tests.adapters.test_cli_replay:poor", "--json"))[0]["action"]
        == "transfer"
    )
    cli("replay", "bisect", code=2)


def poor(connection: Any) -> bool:
    return bool(connection.execute(text("SELECT count(*) FROM accounts WHERE id = 2 AND balance = 15")).scalar())


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
    fake = cli("replay", "fork", "--with", "mailer=tests.adapters.test_cli_replay:Fake").stdout
    assert "result.receipt" in fake
    cli("replay", "fork", "--edit", "nonsense", code=2)
    assert "is no" in cli("replay", "fork", "--with", "mailer=nowhere:Fake", code=1).stderr


class Fake:
    """A mailer that sends nothing."""

    def send(self, to: str, text: str) -> str:
        return "fake"


def test_snapshots(cli: Run, url: URL) -> None:
    (made,) = documents(cli("snapshot", "create", "--json"))
    assert made["tables"] == {"accounts": 3, "entries": 6}
    assert str(made["position"]) in cli("snapshot", "list").stdout
    assert "0 rows differ from 1 snapshots" in cli("replay", "verify").stderr
    with Bus(make_application(), url) as bus, bus.engine.begin() as connection:
        connection.execute(text("UPDATE accounts SET balance = 1000 WHERE id = 1"))
    cli("snapshot", "create")
    done = cli("replay", "verify", code=1)
    assert "rows differ from the snapshot" in done.stdout
    assert "balance: 15 → 1000" in done.stdout


def test_a_timeline_may_begin_with_a_later_snapshot(cli: Run, url: URL) -> None:
    with Bus(make_application(), url) as bus, bus.engine.begin() as connection:
        connection.execute(text("INSERT INTO accounts VALUES (70, 'from before', 7)"))
    (made,) = documents(cli("snapshot", "create", "--json"))
    cli("run", "deposit", "--id", "70", "--amount", "1")
    at = str(made["position"])
    rows = documents(cli("replay", "state", "--table", "accounts", "--where", "id = 70", "--start", at, "--json"))
    assert rows[0]["row"]["balance"] == 8
    assert "1 same" in cli("replay", "verify", "--from", at).stderr
    assert "history is known from the snapshot" in cli("replay", "state", "--at", "2", "--start", at, code=1).stderr


def test_export_and_import(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "journal.gz"
    assert "records in" in cli("journal", "export", str(file)).stdout
    monkeypatch.setenv("ACTIONBUS_DATABASE_URL", f"sqlite:///{tmp_path / 'laptop.db'}")
    monkeypatch.delenv("ACTIONBUS_SANDBOX_URL", raising=False)
    cli("db", "upgrade")
    cli("journal", "import", str(file))
    assert "10 actions: 10 same" in cli("replay", "verify", "--all").stderr
    assert "is not empty" in cli("journal", "import", str(file), code=1).stderr


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_another_dialect_only_when_asked_for_and_with_a_warning(cli: Run) -> None:
    cli("run", "open_account", "--id", "50", "--name", "n1", code=1)
    done = cli("replay", "verify", "--all", "--sandbox", "sqlite://")
    assert "the journal is of postgresql, the sandbox is not" in done.stderr
    assert "11 same" in done.stderr, "the broken constraint is recognised in the words of both"


def test_interactive(cli: Run) -> None:
    commands = "next\nnext\ndiff\nstate accounts\nback\njump end\nsql SELECT count(*) AS n FROM entries\njump nowhere\nstate nothing\nquit\n"
    done = cli("replay", "run", "--interactive", stdin=commands)
    assert "open_account succeeded by ann" in done.stdout
    assert "update accounts 1  balance: 0 → 10" in done.stdout
    assert "is no position" in done.stderr
    assert "there is no table 'nothing'" in done.stderr


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
    hooked = debugged(url, transfer, "", PYTHONBREAKPOINT="tests.adapters.test_cli_replay.hook")
    assert "the hook was called" in hooked.stdout


def hook() -> None:
    print("the hook was called")


def debugged(url: URL, action_id: str, stdin: str, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    done = processes.run(
        [*TOOL, "replay", "debug", action_id, *options], env={**os.environ, **environment(url), **more}, cwd=ROOT,
        input=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip
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
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(path),
        "-c",
        f"{ROOT}/pyproject.toml",
    ]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0


def test_documents_in_time(sqlite_url: URL, tmp_path: Path) -> None:
    env = environment(sqlite_url) | {
        "ACTIONBUS_APP": "actionbus.adapters.library.app:library",
        "ACTIONBUS_ELASTICSEARCH_URL": "embedded",
    }

    def tool(*words: str) -> str:
        return processes.run([*TOOL, *words], env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    tool("db", "upgrade", "--models")
    kit = json.loads(tool("run", "create_kit", "--actor", "ana", "--name", "Icons", "--json"))["result"]["kit_id"]
    tool("run", "rename_kit", "--actor", "ana", "--kit-id", kit, "--name", "Signs")
    assert json.loads(tool("replay", "documents", "kits", "--at", "2", "--json"))["document"]["name"] == "Icons"
    assert json.loads(tool("replay", "documents", "kits", "--json"))["document"]["name"] == "Signs"
    assert "1 documents in kits-then" in tool("replay", "documents", "kits", "--at", "2", "--into", "kits-then")
