"""Queued actions, secrets, completion and logs on the command line."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.queueing.worker import Worker
from tests import processes
from tests.conftest import prepared
from tests.helpers import ROOT, Run, balance, documents, environment
from tests.servers import Redis
from tests.shop.app import make_application
from tests.waiting import PATIENCE_S

ACTIONBUS = Path(sys.executable).with_name("actionbus")


def completed(url: URL, *words: str) -> list[str]:
    """What bash is offered after these words, the last of which is begun."""
    env = environment(url) | {
        "_ACTIONBUS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = processes.run([ACTIONBUS], env=env, capture_output=True, text=True, check=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_names_and_options_are_completed_from_the_declaration(sqlite_url: URL) -> None:
    assert completed(sqlite_url, "actionbus", "run", "de") == ["deposit"]
    assert completed(sqlite_url, "actionbus", "run", "deposit", "--am") == ["--amount"]
    other = ["actionbus", "--app", "actionbus.adapters.library.app:library", "run", "create_k"]
    assert completed(sqlite_url, *other) == ["create_kit"]
    assert completed(sqlite_url, "actionbus", "jour") == ["journal"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, shell: str) -> None:
    assert "_ACTIONBUS_COMPLETE" in run("completion", shell).stdout


def test_the_completion_script_is_good_bash(run: Run) -> None:
    script = run("completion", "bash").stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_queueing_from_the_command_line(run: Run, redis: Redis) -> None:
    broker = ["--broker", redis.url]
    run("run", "open_account", "--id", "1", "--name", "a")
    queued = run(*broker, "run", "deposit", "--id", "1", "--amount", "5", "--async", "--json")
    (ticket,) = documents(queued)
    assert ticket["status"] == "queued"
    assert "queued" in run(*broker, "run", "deposit", "--id", "1", "--amount", "5", "--countdown", "3600").stdout
    at = "2099-01-01T00:00:00+00:00"
    (later,) = documents(run(*broker, "run", "deposit", "--id", "1", "--amount", "1", "--eta", at, "--json"))
    assert later["due_at"].startswith("2099-01-01T00:00:00")
    listed = documents(run("runs", "list", "--json"))
    assert {each["action_id"] for each in listed} >= {ticket["action_id"], later["action_id"]}
    told = run("runs", "list").stdout
    assert told.count("deposit") == 3
    (counts,) = re.findall(r"^\d+ \w+(?:, \d+ \w+)*$", told, re.MULTILINE)
    assert sum(map(int, re.findall(r"\d+", counts))) == 3
    rejected = run(*broker, "run", "deposit", "--id", "x", "--async", code=3)
    assert "id: must be a whole number" in rejected.stderr
    run(*broker, "run", "deposit", "--id", "1", "--amount", "1", "--eta", "soon", code=2)
    for beyond in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
        refused = run(*broker, "run", "deposit", "--id", "1", "--amount", "1", "--eta", beyond, code=2)
        assert "years 1 to 9999" in refused.stderr
    run(*broker, "run", "deposit", "--id", "1", "--amount", "1", "--countdown", "-1", code=2)


def test_operators_at_the_command_line(run: Run) -> None:
    """Queue, look, put off, cancel, pause; each decision is in the journal with who made it, and ids are whole."""
    run("run", "open_account", "--id", "1", "--name", "a")
    for _ in range(2):
        run("run", "deposit", "--id", "1", "--amount", "5", "--countdown", "3600")
    first, second = (each["action_id"] for each in documents(run("runs", "list", "--json")))
    assert first in run("runs", "list", "--queue", "actions", "--state", "queued").stdout
    assert "deposit" not in run("runs", "list", "--state", "due").stdout
    assert "queued" in run("runs", "show", first).stdout
    assert f"{first} is cancelled" in run("runs", "cancel", first, "--actor", "olga").stdout
    assert "has its outcome: failed" in run("runs", "show", first, code=1).stderr
    assert "due at 2099" in run("runs", "reschedule", second, "--at", "2099-01-01T00:00:00Z").stdout
    run("runs", "reschedule", second, code=2)
    assert "is due at" in run("runs", "run-now", second).stdout
    assert "the queue actions is paused" in run("runs", "pause", "actions", "--actor", "olga").stdout
    assert "was paused already" in run("runs", "pause", "actions").stdout
    assert "the queue actions is paused; 1 wait, 0 run" in run("runs", "list").stdout
    assert "runs resume actions" in run("runs", "show", second).stdout
    assert "goes on" in run("runs", "resume", "actions").stdout
    assert "name of no queue" in run("runs", "pause", "acitons", code=2).stderr
    assert (
        "no action names the queue 'acitons'; there are: actions"
        in run("runs", "list", "--queue", "acitons", code=2).stderr
    )
    told = run("runs", "cancel", first, second, code=3)
    assert f"{second} is cancelled" in told.stdout, "one that is refused keeps no other from it"
    assert "no action that waits" in told.stderr
    decided = [(each["action"], each["actor"]) for each in documents(run("log", "-n", "50", "--json"))]
    assert ("cancel_run", "olga") in decided
    assert ("pause_queue", "olga") in decided


def test_what_ended_badly_is_listed_and_run_again(run: Run, url: URL) -> None:
    run("run", "open_account", "--id", "1", "--name", "a")
    run("run", "withdraw", "--id", "1", "--amount", "5", "--async")
    (waiting,) = documents(run("runs", "list", "--json"))
    with Bus(make_application(), url) as bus:
        Worker(bus).run_due()
    (dead,) = documents(run("runs", "list", "--dead", "--json"))
    assert (dead["action_id"], dead["status"]) == (waiting["action_id"], "failed")
    assert dead["action_id"] in run("runs", "list", "--dead").stdout
    assert "1 ended badly" in run("runs", "list").stdout
    run("run", "deposit", "--id", "1", "--amount", "5")
    assert "is queued again as" in run("runs", "retry", dead["action_id"]).stdout
    with Bus(make_application(), url) as bus:
        Worker(bus).run_due()
        assert balance(bus) == 0
    assert "no dead letter" in run("runs", "retry", dead["action_id"], code=3).stderr
    for decision in (["cancel"], ["retry"], ["reschedule", "--in", "5"], ["run-now"]):
        done = run("runs", *decision, dead["action_id"], "00000000-0000-7000-8000-000000000000", code=3)
        assert done.stderr.count("error: ") == 2, "each is told"


SIGN_IN = """
from actionbus import ActionHandler, Arg


class SignIn(ActionHandler):
    arguments = {"name": Arg(str, required=True), "password": Arg(str, required=True, sensitive=True)}

    def execute(self) -> dict[str, object]:
        return {"name": self.args.name, "letters": len(self.args.password)}
"""


def test_a_secret_is_asked_for_at_a_terminal_and_not_shown(sqlite_url: URL, tmp_path: Path) -> None:
    actions = tmp_path / "vault" / "actions"
    actions.mkdir(parents=True)
    (actions / "__init__.py").touch()
    (actions / "sign_in.py").write_text(SIGN_IN)
    (actions.parent / "__init__.py").write_text(
        "from actionbus import Application\napp = Application('vault', actions='vault.actions')\n"
    )
    env = environment(sqlite_url) | {"ACTIONBUS_APP": "vault:app", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    processes.run([ACTIONBUS, "db", "upgrade"], env=env, check=True, capture_output=True)
    ours, theirs = pty.openpty()
    asking = processes.Popen(
        [ACTIONBUS, "run", "sign_in", "--name", "ann"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        close_fds=True,
    )
    os.close(theirs)
    shown = _read_until(ours, b"password: ")
    os.write(ours, b"hunter22\n")
    shown += _read_until(ours, b"letters")
    assert asking.wait(PATIENCE_S) == 0
    os.close(ours)
    assert b"hunter22" not in shown
    piped = processes.run(
        [ACTIONBUS, "run", "sign_in", "--name", "ann"],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert piped.returncode == 3
    assert "password: Missing data" in piped.stderr, "nobody to ask where there is no terminal"
    assert b"hunter22" not in Path(str(sqlite_url.database)).read_bytes()


def _read_until(terminal: int, wanted: bytes) -> bytes:
    read = b""
    while wanted not in read:
        assert select.select([terminal], [], [], PATIENCE_S)[0], read
        try:
            read += os.read(terminal, 4096)
        except OSError:
            raise AssertionError(read) from None
    return read


def test_json_logs(sqlite_url: URL) -> None:
    prepared(sqlite_url)
    done = processes.run(
        [ACTIONBUS, "--log-format", "json", "run", "open_account", "--id", "1", "--name", "a", "--actor", "ann"],
        env=environment(sqlite_url),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    ended = [line for line in lines if line.get("action") == "open_account"]
    assert ended, lines
    assert {"action_id", "status", "actor"} <= set(ended[-1]), ended
