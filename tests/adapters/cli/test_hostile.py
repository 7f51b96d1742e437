"""What is stored or sent is never markup nor a terminal escape: every command that prints values, on hostile ones."""

from __future__ import annotations

import ast
import logging
import os
import re
import sys
import time
import unicodedata
from pathlib import Path
from uuid import uuid4

import click
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Arg, Bus
from actionbus.adapters import cli
from actionbus.adapters.cli.main import group
from actionbus.adapters.library.app import library
from actionbus.adapters.logs import formatter
from actionbus.adapters.safe_text import joined, plain, plain_lines
from actionbus.core.storage.runs import Run as Queued
from tests import processes
from tests.adapters.cli.corpus import FORGED, HOSTILE, WORST
from tests.helpers import Run, documents, environment, subcommands
from tests.projections.notes.app import make_application as notes_application
from tests.shop.actions.withdraw import Withdraw
from tests.shop.app import make_application

ACTOR = r"eve\[/boom][red]"


@pytest.fixture
def url(sqlite_url: URL) -> URL:
    """How a value is shown does not depend on the database it comes from."""
    return sqlite_url


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where commands may write."""
    monkeypatch.setenv("ACTIONBUS_REPLAY", str(tmp_path / "replay"))
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", "embedded")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shop(run: Run, url: URL) -> Run:
    """The command line on a shop whose every value is hostile: rows, arguments, calls, errors, actors, runs."""
    with Bus(make_application(), url) as bus:
        bus.create()
        for number, name in enumerate(["first", *HOSTILE, WORST]):
            bus.execute("open_account", {"id": number, "name": name}, actor=ACTOR)
        bus.execute("deposit", {"id": 0, "amount": 5, "note": WORST}, actor=ACTOR)
        bus.execute("notify", {"to": WORST, "text": WORST, "account": 0}, actor=ACTOR)
        for action, arguments in (("open_account", {"id": "x", "name": WORST}), ("nobody" + WORST, {WORST: 1})):
            with pytest.raises(Exception, match=r"."):
                bus.execute(action, arguments, actor=ACTOR)
        with pytest.raises(Exception, match=r"."):
            bus.execute("open_account", {"id": 99, "name": WORST}, actor=ACTOR)
        queued = Queued.new(uuid4(), "deposit", "default", time.time(), 60)
        with bus.backend.connection() as connection:
            bus.backend.run_alone(connection, bus.runs.inserting(queued))
        with bus.engine.begin() as connection:
            connection.execute(text("UPDATE actionbus_runs SET worker = :worst, problem = :worst"), {"worst": WORST})
    return run


@pytest.fixture
def notes(run: Run, url: URL, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line on projections of hostile values, one of which is stopped."""
    monkeypatch.setenv("ACTIONBUS_APP", "tests.projections.notes_app:app")
    with Bus(notes_application(), url) as bus:
        for note in (*HOSTILE, WORST):
            arguments = {"note": note[:90], "text": f"{note} findme", "shelves": [note, WORST]}
            bus.execute("put_note", arguments, actor=ACTOR)
    run("projections", "run", "--once")
    run("journal", "stream", "--name", "q")
    with Bus(notes_application(), url) as bus, bus.engine.begin() as connection:
        detail = '{"message": "\\u001b[2J [/boom]\\n' + FORGED + '", "traceback": "a\\n\\u001b[2J\\n[/boom]"}'
        connection.execute(
            text(
                "UPDATE actionbus_checkpoints SET state = 'stopped', detail = :d "
                "WHERE projection IN ('shelves', 'subscription q')"
            ),
            {"d": detail},
        )
    return run


def assert_plain(printed: str, *, shows: bool = True) -> None:
    """Nothing steers a terminal, no line was forged, and markup is shown as it was written."""
    steering = [each for each in printed if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co")]
    assert set(steering) <= {"\n"}, [hex(ord(each)) for each in set(steering) - {"\n"}]
    assert not re.search(rf"^\W*{re.escape(FORGED)}", printed, re.MULTILINE)
    assert "Traceback (most recent call last)" not in printed
    assert not shows or "[/boom]" in printed or "[red]" in printed, printed


SHOP: dict[str, list[tuple[list[str], int]]] = {
    "log": [
        (["log", "-n", "50"], 0),
        (["log", "--submitted"], 0),
        (["log", "--json"], 0),
        (["log", "--actor", ACTOR], 0),
    ],
    "show": [(["show", "42"], 0), (["show", "44"], 0), (["show", "46"], 0), (["show", "42", "--json"], 0)],
    "run": [
        (["run", "open_account", "--id", "100", "--name", HOSTILE[0]], 1),
        (["run", "open_account", "--id", "100", "--name", HOSTILE[0], "--json"], 1),
        (["run", "open_account", "--id", WORST, "--name", "x"], 3),
        (["run", "nosuch" + WORST], 2),
        (["run", "deposit", "--arguments", WORST], 2),
        (["run", "deposit", "--arguments", "-"], 3),
        (["run", "deposit", "--" + WORST], 2),
    ],
    "runs list": [
        (["runs", "list"], 0),
        (["runs", "list", "--json"], 0),
        (["runs", "list", "--dead"], 0),
        (["runs", "list", "--queue", WORST], 2),
        (["runs", "list", "--state", WORST], 2),
    ],
    "runs show": [(["runs", "show", "ID"], 1), (["runs", "show", WORST], 2)],
    "runs cancel": [(["runs", "cancel", "ID", "--actor", ACTOR], 3), (["runs", "cancel", WORST], 2)],
    "runs retry": [(["runs", "retry", "ID"], 3), (["runs", "retry", WORST], 2)],
    "runs reschedule": [
        (["runs", "reschedule", "ID", "--in", "5"], 3),
        (["runs", "reschedule", "ID", "--at", WORST], 2),
    ],
    "runs run-now": [(["runs", "run-now", "ID"], 3), (["runs", "run-now", WORST], 2)],
    "runs pause": [(["runs", "pause", WORST], 2)],
    "runs resume": [(["runs", "resume", WORST], 2), (["runs", "resume", "default", "--actor", ACTOR], 0)],
    "revert": [(["revert", "ID", "--actor", ACTOR], 0), (["revert", "ID"], 3), (["revert", "no[/boom]\x1b"], 2)],
    "history state": [
        (["history", "state"], 0),
        (["history", "state", "--table", "no[/boom]\x1b"], 1),
        (["history", "state", "--table", "accounts", "--after", "no[/boom]\x1b"], 0),
    ],
    "history rows": [(["history", "rows", "accounts", "1"], 0), (["history", "rows", "accounts", "no[/boom]\x1b"], 1)],
    "history blame": [
        (["history", "blame", "accounts", "1"], 0),
        (["history", "blame", "accounts", "1", "no[/boom]"], 1),
    ],
    "history diff": [(["history", "diff", "start", "end"], 0), (["history", "diff", "no[/boom]\x1b", "end"], 1)],
    "history changes": [(["history", "changes", "ID"], 0), (["history", "changes", "no[/boom]\x1b"], 2)],
    "history walk": [(["history", "walk"], 0)],
    "history bisect": [
        (["history", "bisect", "accounts", "1", f"name={HOSTILE[0]}"], 0),
        (["history", "bisect", "SELECT count(*) > 3 FROM accounts"], 0),
        (["history", "bisect", "SELECT no[/boom]\x1b FROM accounts"], 1),
    ],
    "history archive": [
        (["history", "archive", "--before", "no[/boom]\x1b"], 2),
        (["history", "archive", "--before", "20", "--to", r"x\[red]", "--actor", ACTOR], 0),
    ],
    "history archives": [
        (["history", "archive", "--before", "20", "--to", r"x\[red]", "--actor", ACTOR], 0),
        (["history", "archives"], 0),
    ],
    "history attach": [(["history", "attach", "no[/boom]\x1b"], 2)],
    "journal stats": [(["journal", "stats"], 0)],
    "journal export": [(["journal", "export", r"x\[red].gz"], 0), (["journal", "export", "no[/boom]\x1b/x"], 2)],
    "journal import": [(["journal", "import", "[/boom]\x1b[2J"], 2)],
    "journal recover": [(["journal", "recover"], 0)],
    "replay run": [
        (["replay", "run", "--changes"], 0),
        (["replay", "run", "--all"], 0),
    ],
    "replay verify": [(["replay", "verify", "--all"], 1), (["replay", "verify", "--all", "--format", "junit"], 1)],
    "replay fork": [(["replay", "fork", "--edit", 'ID:name="z [/boom] \\u001b[2J"'], 0)],
    "replay export-test": [(["replay", "export-test", "ID", "--to", r"t_\[red].py"], 0)],
}
NOTES: dict[str, list[tuple[list[str], int]]] = {
    "search": [
        (["search", "findme", "--in", "notes", "--limit", "50", "--facet", "shelves"], 0),
        (["search", "findme", "--in", "notes", "--json"], 0),
        (["search", "x", "--in", WORST], 2),
        (["search", "findme", "--in", "notes", "--all"], 0),
        (["search", "--sort", WORST], 2),
        (["search", "--range", f"{WORST}:gte:1"], 2),
        (["search", "--range", f"{WORST}:gte:1", "--range", f"{WORST}:gte:2"], 2),
    ],
    "projections status": [(["projections", "status"], 0)],
    "projections run": [(["projections", "run", "no[/boom]\x1b"], 1)],
    "projections rebuild": [
        (["projections", "rebuild", "notes", "--dry-run"], 0),
        (["projections", "rebuild", "no[/boom]\x1b"], 1),
    ],
    "projections verify": [
        (["projections", "verify", "notes"], 1),
        (["projections", "verify", "notes", "--all", "--json"], 1),
        (["projections", "verify", "no[/boom]\x1b"], 1),
    ],
    "projections retry": [(["projections", "retry", "no[/boom]\x1b"], 1)],
    "projections skip": [(["projections", "skip", "no[/boom]\x1b"], 1)],
    "projections forget": [(["projections", "forget", "no[/boom]\x1b"], 1)],
    "projections pause": [(["projections", "pause", "no[/boom]\x1b"], 1)],
    "projections resume": [(["projections", "resume", "no[/boom]\x1b"], 1)],
    "journal stream": [
        (["journal", "stream"], 0),
        (["journal", "stream", "--name", WORST], 2),
        (["journal", "stream", "--action", WORST], 2),
    ],
    "subscriptions retry": [(["subscriptions", "retry", "no[/boom]\x1b"], 1)],
    "subscriptions skip": [(["subscriptions", "skip", "no[/boom]\x1b"], 1)],
    "subscriptions reset": [(["subscriptions", "reset", "no[/boom]\x1b", "--to", "1"], 1)],
    "subscriptions pause": [(["subscriptions", "pause", "no[/boom]\x1b"], 1)],
    "subscriptions resume": [(["subscriptions", "resume", "no[/boom]\x1b"], 1)],
    "subscriptions status": [(["subscriptions", "status"], 0)],
    "history documents": [(["history", "documents", "notes"], 0), (["history", "documents", "no[/boom]\x1b"], 2)],
}
ELSEWHERE = {
    "replay debug": "test_a_debugged_action_is_plain",
    "serve": "test_a_text_log_has_one_line_per_event",
    "token add": "test_tokens_are_plain",
    "token list": "test_tokens_are_plain",
    "token revoke": "test_tokens_are_plain",
    "worker": "test_a_text_log_has_one_line_per_event",
    "up": "test_a_text_log_has_one_line_per_event",
    "actions": "test_declarations_are_plain",
}
"""Covered by a test of its own, below."""
NOTHING = {
    "completion": "prints a script of click's",
    "demo": "shows its own data, by the functions of `log` and `search`",
    "db upgrade": "prints names of tables and revisions",
    "db current": "prints a revision",
    "db sql": "prints our own SQL",
    "elasticsearch start": "prints an address",
    "elasticsearch stop": "prints whether it ran",
    "elasticsearch status": "prints an address",
    "inspect": "prints an address; its pages: tests/adapters/inspector/test_hostile.py",
    "history baseline": "prints names of tables",
    "history erase": "prints names of tables, numbers and a receipt",
    "history install": "prints names of tables",
    "history prune": "prints names of tables and numbers",
    "history stop": "prints names of tables",
    "history status": "prints names of tables, numbers and times",
    "projections prune": "prints numbers",
    "stubs": "prints a module, whose texts are literals of Python",
    "replay open": "prints an address and command lines",
}
"""Commands that print no value that anybody stored or sent."""


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> list[str]:
    if isinstance(command, click.Group) and path != ("run",):
        return [found for name, each in subcommands(command).items() for found in _commands(each, (*path, name))]
    return [" ".join(path)]


def test_every_command_is_covered_here() -> None:
    """A new command has to be added to one of the lists above."""
    assert sorted(_commands(group)) == sorted([*SHOP, *NOTES, *ELSEWHERE, *NOTHING])


def test_all_that_is_printed_goes_through_one_module() -> None:
    """Nobody prints past `say`, `print_table` and `print_json`, which make it plain."""
    allowed = {
        ("common", "echo"),
        ("printing", "print"),
        ("printing", "echo"),
        ("printing", "_Terminal"),
        ("progress", "Console"),
        ("elasticsearch", "Console"),
        ("completion", "echo"),
        ("db", "echo"),
        ("run", "echo"),
        ("stubs", "echo"),
    }
    found = set()
    for path in Path(cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in ("echo", "secho", "print", "Console", "_Terminal", "from_markup", "print_exception"):
                    found.add((path.stem, name))
    assert found == allowed


@pytest.mark.parametrize("command", SHOP)
def test_a_stored_value_is_plain_text(shop: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    action_id = documents(shop("log", "--action", "deposit", "--json"))[0]["action_id"]
    if command == "replay fork":
        action_id = documents(shop("log", "--action", "open_account", "--json"))[1]["action_id"]
    if command == "replay verify":
        monkeypatch.setattr("tests.shop.actions.notify.Notify.execute", lambda self: {"receipt": WORST + "!"})
    stdin, printed = None, []
    for words, code in SHOP[command]:
        given = [word.replace("ID", action_id, 1) if word.startswith("ID") else word for word in words]
        if "-" in words:
            stdin = f'{{"id": 1, "note": "{HOSTILE[1]}"}}\n{HOSTILE[0]}\n{{"id": "x[/boom]\\u001b"}}\n'
        if command == "history walk":
            stdin = "next\njump 24\ndiff\nstate accounts\njump no[/boom]\x1b\nquit\n"
        done = shop(*given, code=code, stdin=stdin)
        assert_plain(done.stdout + done.stderr, shows=False)
        printed.append(done.stdout + done.stderr)
    if command not in ("journal recover", "journal stats"):
        assert any("[/boom]" in each or "[red]" in each for each in printed), printed


def test_tokens_are_plain(run: Run, url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTIONBUS_APP")
    with Bus(library, url) as bus:
        assert library.models is not None
        library.models.create_all(bus.engine)
    told = run("token", "add", "ana", "--label", "x\\[/boom]\x1b[2J\u202e")
    assert_plain(told.stdout + told.stderr, shows=False)
    listed = run("token", "list")
    assert_plain(listed.stdout)
    token_id = documents(run("token", "list", "--json"))[0]["token_id"]
    assert_plain(run("token", "revoke", token_id).stdout, shows=False)


@pytest.mark.parametrize("command", NOTES)
def test_a_projected_value_is_plain_text(notes: Run, command: str, url: URL) -> None:
    if command in ("projections rebuild", "projections verify"):  # so that there is a difference to show
        with Bus(notes_application(), url) as bus, bus.engine.begin() as connection:
            connection.execute(
                text("UPDATE projection_documents SET document = replace(document, 'findme', '[/boom]')")
            )
    for words, code in NOTES[command]:
        done = notes(*words, code=code)
        assert_plain(done.stdout + done.stderr)


def test_a_debugged_action_is_plain(shop: Run, url: URL) -> None:
    failed = documents(shop("log", "--action", "open_account", "--status", "failed", "--json"))[0]["action_id"]
    tool = [sys.executable, "-m", "actionbus", "replay", "debug", failed, "--post-mortem"]
    done = processes.run(
        tool, env=os.environ | environment(url), input="q\n", capture_output=True, text=True, check=True
    )
    assert_plain(done.stderr)
    assert_plain(done.stdout.split("(Pdb)")[-1], shows=False)


def test_declarations_are_plain(shop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Withdraw, "__doc__", " ".join(each for each in HOSTILE if FORGED not in each))
    monkeypatch.setattr(Withdraw, "permission", WORST)
    monkeypatch.setattr(Withdraw, "arguments", {"amount": Arg(str, default=WORST, options=[WORST], description=WORST)})
    for words in (["actions"], ["actions", "withdraw"], ["actions", "--json"], ["run", "withdraw", "--help"]):
        printed = shop(*words).stdout
        if "--help" not in words:  # click's own, of the application's words
            assert_plain(printed)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_text_log_has_one_line_per_event(log_format: str) -> None:
    """`serve`, `worker` and `--verbose` have their formatter from here."""
    made = formatter(log_format)
    for hostile in (*HOSTILE, WORST):
        try:
            raise ValueError(hostile)
        except ValueError:
            record = logging.LogRecord("x", logging.ERROR, "file", 1, "told: %s", (hostile,), sys.exc_info())
        record.action = hostile
        shown = made.format(record)
        assert "\n" not in shown
        steering = {each for each in shown if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp", "Co")}
        assert not steering
        assert "Traceback" in shown, "the exception is in it, on the same line"


def test_plain_text_says_what_was_there() -> None:
    assert plain("a\x1b[2J\n\t\u202e\x85\ud800") == "a\\x1b[2J\\n\\t\\u202e\\x85\\ud800"
    assert plain("Zoë 👩‍👩‍👧 می‌خواهم 日本 [b]") == "Zoë 👩‍👩‍👧 می‌خواهم 日本 [b]"
    assert plain_lines("a\r\nb\x1b") == "a\nb\\x1b"
    assert joined("connection refused\n\tIs the server running?") == "connection refused Is the server running?"


@pytest.mark.parametrize("width", [40, 80, 100])
def test_names_and_ids_are_never_cut(shop: Run, url: URL, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    with Bus(make_application(), url) as bus:
        names = [action.name for action in bus.registry]
        (queued,) = bus.runs.all()
    listed = shop("actions").stdout
    assert all(re.search(rf"^{name}\b", listed, re.MULTILINE) for name in names)
    shown = shop("runs", "list").stdout
    assert str(queued.action_id) in shown
    assert queued.state in shown
    assert queued.action in shown
    blamed = shop("history", "blame", "accounts", "1").stdout
    assert "open_account" in blamed


@pytest.mark.parametrize("width", [80, 100])
def test_a_projections_state_is_never_cut(notes: Run, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = notes("projections", "status").stdout
    assert re.search(r"^shelves .*\bserving +stopped\b", shown, re.MULTILINE)
    for told in documents(notes("projections", "status", "--json")):
        assert told["index"] is None or told["index"] in shown
