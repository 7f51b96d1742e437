"""What the command line imports before it knows what is asked, and what it says of commands that it did not import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters.cli.main import group
from tests.conftest import prepared
from tests.helpers import Run, subcommands
from tests.shop.app import make_application

HEAVY = {"sqlalchemy", "marshmallow", "elasticsearch", "flask", "celery", "alembic", "psycopg2", "cryptography"}
HEAVY |= {"actionbus.core.errors", "actionbus.projections", "actionbus.replay", "sqlalchemy.orm", "actionbus.core.bus"}
SCRIPT = f"""
import atexit, sys
atexit.register(lambda: print("heavy:", *sorted({HEAVY} & set(sys.modules))))
from actionbus.adapters.cli.main import main
main()
"""


def imports_of(*words: str, **environment: str) -> list[str]:
    """Which heavy modules a start of the command line imports."""
    line = [sys.executable, "-c", SCRIPT, *words]
    done = subprocess.run(line, env=os.environ | environment, capture_output=True, text=True, check=True)
    return done.stdout.rpartition("heavy:")[2].split()


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("-h",)])
def test_what_needs_no_command_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    assert imports_of(*words) == []


@pytest.mark.parametrize("words", ["actionbus pro", "actionbus run cre", "actionbus run create_kit --na"])
def test_completion_imports_nothing_heavy(words: str) -> None:
    asked = {
        "_ACTIONBUS_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
        "ACTIONBUS_APP": "actionbus.adapters.library.app:library",
    }
    assert imports_of(**asked) == []


def test_the_log_takes_no_application_nor_what_runs_one(sqlite_url: URL) -> None:
    prepared(sqlite_url)
    environment = {"ACTIONBUS_DATABASE_URL": str(sqlite_url), "ACTIONBUS_APP": "no.such:app"}
    assert set(imports_of("log", "-n", "1", **environment)) == {"sqlalchemy", "psycopg2", "actionbus.core.errors"}


BROKEN = "raise RuntimeError('this module does not import')"


def test_the_journal_is_told_whatever_became_of_the_application(
    run: Run, url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Bus(make_application(), url) as bus:
        bus.create()
        outcome = bus.execute("open_account", {"id": 1, "name": "one"})
    (tmp_path / "broken_application.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    for named in ("broken_application:app", "no_such_application:app", "json:dumps"):
        monkeypatch.setenv("ACTIONBUS_APP", named)
        assert "open_account" in run("log", "--action", "open_account", "--touching", "accounts").stdout
        shown = run("show", str(outcome.action_id)).stdout
        assert re.search(r"touched +insert (public\.)?accounts 1$", shown, re.MULTILINE)
        assert "there is no action 'nosuch', nor was there one" in run("log", "--action", "nosuch", code=2).stderr
        assert run("log", "--touching", "nosuch").stdout == "", "nobody knows which tables there are"


def test_a_command_is_seen_to_import() -> None:
    """So that the tests above can fail."""
    assert "sqlalchemy" in imports_of("log", "--help")


def test_help_says_of_each_command_what_the_command_says() -> None:
    context = click.Context(group)
    formatter = context.make_formatter()
    click.Group.format_commands(group, context, formatter)  # it asks the commands themselves
    ours = context.make_formatter()
    group.format_commands(context, ours)
    assert ours.getvalue() == formatter.getvalue() != ""


def test_each_command_is_completed() -> None:
    completed = ShellComplete(group, {}, "actionbus", "_ACTIONBUS_COMPLETE").get_completions([], "")
    told = {each.value: each.help for each in completed}
    assert told.keys() == subcommands(group).keys()
    assert [each.value for each in ShellComplete(group, {}, "actionbus", "").get_completions([], "pro")] == [
        "projections"
    ]
    assert all(told.values())
