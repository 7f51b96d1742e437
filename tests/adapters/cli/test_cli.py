"""The command line as a user meets it; where signals or settings matter, in processes of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import ActionRunner, Bus
from tests import processes
from tests.conftest import prepared
from tests.helpers import Run, documents, environment
from tests.shop.app import make_application
from tests.waiting import PATIENCE_S, eventually


def test_run_log_and_show(run: Run) -> None:
    run("db", "upgrade", "--models")  # and with it what records rows
    done = run("run", "open_account", "--actor", "ann", "--id", "1", "--name", "first")
    assert done.stdout.startswith("succeeded  action ")
    assert json.loads(done.stdout.splitlines()[1]) == {"id": 1}
    (outcome,) = documents(run("run", "deposit", "--id", "1", "--amount", "7", "--json", "--actor", "ann"))
    assert outcome["result"] == {"balance": 7}
    lines = [line for line in run("log").stdout.splitlines() if " bypass " not in line]
    assert [line.split()[3:6] for line in lines] == [
        ["succeeded", "ann", "open_account"],
        ["succeeded", "ann", "deposit"],
    ]
    records = documents(run("log", "--json", "--submitted"))
    assert [record["kind"] for record in records if record["kind"] != "bypass"] == ["submitted", "outcome"] * 2
    assert all("seed" not in record for record in records)
    shown = run("show", outcome["action_id"]).stdout
    assert re.search(r"update (public\.)?accounts 1 \(balance\)", shown)
    assert documents(run("show", str(outcome["position"]), "--json"))[1]["result"] == {"balance": 7}


def test_exit_codes_tell_what_happened(run: Run) -> None:
    done = run("run", "deposit", "--id", "x", "--amount", "0", code=3)
    assert "id: must be a whole number" in done.stderr
    assert "see: actionbus show " in done.stderr
    run("run", "open_account", "--id", "1", "--name", "n", "--actor", "mallory", code=4)
    done = run("run", "withdraw", "--id", "9", "--amount", "1", code=1)
    assert "LookupError" in done.stderr
    (told,) = documents(run("run", "deposit", "--id", "x", "--json", code=3))
    assert told["errors"] == {"id": ["must be a whole number"]}
    assert "there is no action" in run("run", "nope", code=2).stderr
    assert "no action" in run("show", "999", code=2).stderr
    run("show", "not-an-id", code=2)
    run("log", "--since", "yesterdayish", code=2)


def test_json_lines_from_standard_input_and_file(run: Run, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"id": n, "name": f"a{n}"}) + "\n" for n in (1, 2, 3))
    done = run("run", "open_account", "--arguments", "-", stdin=lines)
    assert done.stderr.strip() == "3 succeeded"
    file = tmp_path / "deposits.jsonl"
    file.write_text('{"id": 1, "amount": 5}\nnot json\n{"id": 77}\n\n{"id": 2, "amount": 1}\n')
    done = run("run", "deposit", "--arguments", f"@{file}", "--json", code=3)
    assert [each["status"] for each in documents(done)] == ["succeeded", "rejected", "rejected", "succeeded"]
    assert "line 2: rejected: not JSON" in done.stderr
    assert "2 rejected, 2 succeeded" in done.stderr
    assert "cannot be read" in run("run", "deposit", "--arguments", "@/no/such/file", code=2).stderr


def test_lines_that_name_their_actions(run: Run) -> None:
    lines = [
        {"action": "open_account", "arguments": {"id": 1, "name": "a"}},
        {"action": "deposit", "arguments": {"id": 1, "amount": 2}, "idempotency_key": "one"},
        {"action": "deposit", "arguments": {"id": 1, "amount": 2}, "idempotency_key": "one"},
        {"action": "no_such_thing"},
        {"arguments": {}},
        {"action": "withdraw", "arguments": {"id": 1, "amount": 3}},
    ]
    text = "\n".join(map(json.dumps, lines))
    done = run("run", "--lines", "-", "--json", "--actor", "ana", stdin=text, code=1)
    found = documents(done)
    assert [each["status"] for each in found] == ["succeeded"] * 3 + ["rejected"] * 2 + ["failed"]
    assert [each["line"] for each in found] == [1, 2, 3, 4, 5, 6]
    assert [each.get("repeated") for each in found[1:3]] == [False, True]
    assert "expected an object with `action`" in found[4]["message"]
    assert {record["actor"] for record in documents(run("log", "--json")) if record["kind"] == "outcome"} == {"ana"}
    assert "leave ACTION out" in run("run", "--lines", "-", "deposit", "--id", "1", code=2).stderr
    assert "@FILE" in run("run", "--lines", "{}", code=2).stderr


def test_arguments_as_one_object(run: Run) -> None:
    run("run", "open_account", "--arguments", '{"id": 4, "name": "é😀"}')
    assert documents(run("log", "--json"))[0]["arguments"]["name"] == "é😀"
    assert "not JSON" in run("run", "open_account", "--arguments", "{", code=2).stderr


def test_idempotency_key(run: Run) -> None:
    run("run", "open_account", "--id", "1", "--name", "a")
    for repeated in (False, True):
        (told,) = documents(run("run", "deposit", "--id", "1", "--idempotency-key", "k", "--json"))
        assert told["repeated"] is repeated


def test_filters(run: Run) -> None:
    run("db", "upgrade", "--models")
    (opened,) = documents(run("run", "open_account", "--id", "1", "--name", "a", "--actor", "ann", "--json"))
    run("run", "deposit", "--id", "1", "--actor", "bob")
    for filters, actions in (
        (["--actor", "bob"], ["deposit"]),
        (["--action", "open_account"], ["open_account"]),
        (["--touching", "accounts:1"], ["open_account", "deposit"]),
        (["--touching", "entries"], ["deposit"]),
        (["--status", "failed"], []),
        (["--since", "1h", "--actor", "ann", "-n", "1"], ["open_account"]),
        (["--until", "1h"], []),
        (["--after", str(opened["position"])], ["deposit"]),
    ):
        assert [record["action"] for record in documents(run("log", "--json", *filters))] == actions, filters


def test_catalogue_and_help(run: Run) -> None:
    assert "open_account" in run("actions").stdout
    (told,) = documents(run("actions", "deposit", "--json"))
    assert told["version"] == 2
    assert told["arguments"][1] == {
        "name": "amount",
        "type": "int",
        "required": False,
        "default": 1,
        "sensitive": False,
        "personal": False,
        "description": "",
    }
    shown = run("run", "deposit", "--help").stdout
    assert "Put money into an account" in shown
    assert "--amount INT" in shown
    for command in (
        ["--help"],
        ["run", "--help"],
        ["log", "-h"],
        ["journal", "--help"],
        ["db", "--help"],
        ["actions", "deposit"],
    ):
        run(*command)


def test_stats_and_recover(run: Run) -> None:
    run("run", "open_account", "--id", "1", "--name", "a")
    assert "2 records" in run("journal", "stats").stdout
    assert documents(run("journal", "stats", "--json"))[0]["settled"] == 2
    assert "0 interrupted" in run("journal", "recover", "--older-than", "5m").stdout
    assert documents(run("journal", "recover", "--json"))[0]["interrupted"] == []


def test_db(run: Run) -> None:
    assert "(newest)" in run("db", "current").stdout
    assert "nothing to do" in run("db", "upgrade").stdout
    assert "CREATE TABLE journal" in run("db", "sql").stdout


def test_without_a_journal_it_says_what_to_do(sqlite_url: URL) -> None:
    command = [sys.executable, "-m", "actionbus", "log"]
    done = processes.run(command, capture_output=True, text=True, env=environment(sqlite_url), check=False)
    assert done.returncode == 2
    assert "actionbus db upgrade" in done.stderr


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("ATTEMPTS", "0", "a whole number from 1 up, not '0'; left out, it is 10"),
        ("ATTEMPTS", "ten", "a whole number from 1 up, not 'ten'"),
        ("REDELIVER_AFTER", "nan", "a number of seconds, more than 0, not 'nan'"),
        ("REDELIVER_AFTER", "-3", "a number of seconds, more than 0, not '-3'"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused_by_its_name(
    run: Run, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, told: str
) -> None:
    """With no attempt at all, whatever is queued would end as given up."""
    monkeypatch.setenv(f"ACTIONBUS_{setting}", value)
    assert f"ACTIONBUS_{setting} must be {told}" in run("run", "open_account", "--preview", code=2).stderr


@pytest.mark.parametrize(
    ("variable", "value", "code", "told"),
    [
        ("ACTIONBUS_APP", "nonsense", 2, "not of the form module:attribute"),
        ("ACTIONBUS_APP", "no.such.module:app", 2, "no module"),
        ("ACTIONBUS_APP", "json:dumps", 2, "not an Application"),
        ("ACTIONBUS_DATABASE_URL", "postgresql://127.0.0.1:1/x", 5, "database"),
        ("ACTIONBUS_DATABASE_URL", "mysql://x", 2, "not supported"),
    ],
)
def test_wrong_settings_are_said_in_a_sentence(
    sqlite_url: URL, variable: str, value: str, code: int, told: str
) -> None:
    command = [sys.executable, "-m", "actionbus", "runs", "list"]
    env = environment(sqlite_url) | {variable: value}
    done = processes.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_log_follows(run: Run, url: URL) -> None:
    run("run", "open_account", "--id", "1", "--name", "a")
    command = [sys.executable, "-m", "actionbus", "log", "-f", "--json"]
    follower = processes.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(url))
    assert follower.stdout
    assert json.loads(follower.stdout.readline())["action"] == "open_account"
    run("run", "deposit", "--id", "1")
    assert json.loads(follower.stdout.readline())["action"] == "deposit"
    follower.send_signal(signal.SIGINT)
    assert follower.wait(PATIENCE_S) == 0
    follower.stdout.close()


CAN_BE_PRINTED = ">/dev/null"
CANNOT_BE_PRINTED = [">/dev/full", ">&-", ">&- 2>&-", ">&- <&-", "<&-"]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        *(("", where) for where in (CAN_BE_PRINTED, *CANNOT_BE_PRINTED)),
        *(("--json", where) for where in CANNOT_BE_PRINTED[:2]),
    ],
)
def test_what_succeeded_did_so_wherever_it_is_printed(sqlite_url: URL, where: str, options: str) -> None:
    prepared(sqlite_url)
    script = f"{sys.executable} -m actionbus run open_account --id 1 --name a {options} {where}"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env=environment(sqlite_url), check=False
    )
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    assert ("could not be printed" in done.stderr) == (where == ">/dev/full")
    with Bus(make_application(), sqlite_url) as bus:
        assert [record.status for record in bus.journal.read(kind="outcome")] == ["succeeded"]


@pytest.mark.parametrize("source", ["-", "@"])
def test_lines_end_where_their_outcomes_cannot_be_printed(sqlite_url: URL, source: str, tmp_path: Path) -> None:
    """What is done is told, and it is no success, for the other lines are not."""
    prepared(sqlite_url)
    lines = tmp_path / "lines"
    lines.write_text("".join(f'{{"id": {number}, "name": "{number}"}}\n' for number in range(1, 4)))
    given = source + (str(lines) if source == "@" else "")
    script = f"{sys.executable} -m actionbus run open_account --arguments {given} --json >/dev/full <{lines}"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env=environment(sqlite_url), check=False
    )
    assert done.returncode == 1
    assert "everything up to line 1 is done" in done.stderr
    with Bus(make_application(), sqlite_url) as bus:
        assert len(list(bus.journal.read(kind="outcome"))) == 1


@pytest.mark.parametrize("when", ["while it runs", "after it has succeeded"])
def test_ctrl_c_tells_what_became_of_an_action(run: Run, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    real = ActionRunner.execute

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def execute(runner: ActionRunner, *arguments: Any, **options: Any) -> Any:
        outcome = real(runner, *arguments, **options)
        error = KeyboardInterrupt()
        error.add_note(f"actionbus: raised by open_account, action {outcome.action_id}")
        raise error

    if when == "while it runs":
        monkeypatch.setattr("tests.shop.app.Repo.open", interrupted)
    else:
        monkeypatch.setattr(ActionRunner, "execute", execute)
    told = run("run", "open_account", "--id", "1", "--name", "a", code=130).stderr
    assert ("had succeeded already" if "after" in when else "changed nothing") in told
    [record] = documents(run("log", "--json"))
    assert record["action_id"] in told


def test_ctrl_c_ends_any_command_alike(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("actionbus.core.journal.Journal.window", interrupted)
    assert run("log", code=130).stderr == "error: interrupted\n"


def test_ctrl_c_leaves_nothing_half_done(run: Run, url: URL) -> None:
    run("run", "open_account", "--id", "1", "--name", "a")
    command = [sys.executable, "-m", "actionbus", "run", "deposit", "--arguments", "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = processes.Popen(command, text=True, env=environment(url), **pipes)
    assert running.stdin
    for _ in range(200):
        running.stdin.write('{"id": 1}\n')
    running.stdin.flush()
    eventually(lambda: len(documents(run("log", "--action", "deposit", "--json"))) >= 3, "three deposits are done")
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130
    assert "interrupted after line" in told
    records = documents(run("log", "--action", "deposit", "--json", "-n", "1000"))
    succeeded = [record for record in records if record["status"] == "succeeded"]
    assert succeeded[-1]["result"]["balance"] == len(succeeded)
    assert documents(run("journal", "recover", "--older-than", "0s", "--json"))[0]["interrupted"] == []


def test_an_action_is_shown_with_what_it_caused_or_says_that_there_is_more(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in "12":
        run("run", "open_account", "--id", number, "--name", number)
    run("run", "deposit", "--id", "1", "--amount", "9")
    (done,) = documents(run("run", "transfer", "--source", "1", "--target", "2", "--amount", "3", "--json"))
    shown = run("show", str(done["action_id"]), "--json")
    assert [(each["action"], each["kind"]) for each in documents(shown)] == [
        ("transfer", "submitted"),
        ("withdraw", "submitted"),
        ("withdraw", "outcome"),
        ("deposit", "submitted"),
        ("deposit", "outcome"),
        ("transfer", "outcome"),
    ]
    assert shown.stderr == ""
    monkeypatch.setattr("actionbus.core.browsing.causes.MOST_NODES", 1)
    less = run("show", str(done["action_id"]), "--json")
    assert [each["action"] for each in documents(less)] == ["transfer", "withdraw", "withdraw", "transfer"]
    assert "caused more" in less.stderr
