"""What goes wrong on the command line is said in a sentence, on one line, and nothing is made by commands that read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from tests.conftest import prepared
from tests.helpers import ROOT, environment
from tests.projections.notes.app import make_application as notes_application

READING = [
    ["log"], ["show", "1"], ["runs"], ["journal", "stats"], ["journal", "export", "x.gz"], ["journal", "recover"],
    ["db", "current"], ["search", "x"], ["projections", "status"], ["projections", "run", "--once"],
    ["projections", "prune"], ["replay", "verify"], ["replay", "state"], ["replay", "diff", "start", "end"],
    ["replay", "blame", "accounts", "1"], ["replay", "run"], ["replay", "documents", "notes"], ["snapshot", "create"],
    ["snapshot", "list"], ["run", "put_note", "--note", "a"], ["serve", "--authenticate", "none"], ["worker"],
]  # fmt: skip
"""Every command that needs a journal which is there."""


def tool(url: URL | str, *words: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `actionbus` in a process of its own."""
    at = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    env = environment(url) if isinstance(url, URL) else os.environ | {"PYTHONPATH": str(ROOT)}
    env |= {"ACTIONBUS_APP": "tests.projections.notes_app:app", "ACTIONBUS_DATABASE_URL": at} | more
    command = [sys.executable, "-m", "actionbus", *words]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def assert_sentence(done: subprocess.CompletedProcess[str], *told: str) -> None:
    """One sentence, no traceback."""
    assert done.returncode in (1, 2, 5), done
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed
    assert "\ufffd" not in printed
    assert all(each in printed for each in told), printed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["log", "--since", "99999999999d"], "before the year 1"),
        (["log", "--since", "9" * 5000 + "w"], ""),
        (["log", "--until", "0001-01-01T00:00:00+14:00"], "before the year 1"),
        (["log", "--until", "9999-12-31T23:59:59-14:00"], "after the year 9999"),
        (["journal", "recover", "--older-than", "99999999999d"], "longer than"),
        (["journal", "recover", "--older-than", "9" * 5000 + "s"], "longer than"),
        (["projections", "status", "--check", "--max-lag", "99999999999w"], "longer than"),
        (["journal", "export", "/nonexistent/x"], "/nonexistent"),
        (["journal", "export", "/proc/x"], "/proc"),
        (["snapshot", "create", "--folder", "/proc/x/y"], "/proc/x"),
    ],
)
def test_a_value_out_of_range_is_said_in_a_sentence(sqlite_url: URL, words: list[str], told: str) -> None:
    prepared(sqlite_url)
    assert_sentence(tool(sqlite_url, *words), told)


@pytest.mark.parametrize("words", [["log"], ["db", "upgrade"], ["db", "current"]])
@pytest.mark.parametrize("place", ["/proc/x/y.db", "/dev/null/y.db"])
def test_a_place_where_no_file_can_be_is_said_in_a_sentence(words: list[str], place: str) -> None:
    assert_sentence(tool(f"sqlite:///{place}", *words), place.rsplit("/", 1)[0])


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_mistyped_database_is_not_made_by_a_command_that_reads(tmp_path: Path, words: list[str]) -> None:
    missing = tmp_path / "folder" / "mistyped.db"
    done = tool(f"sqlite:///{missing}", *words, cwd=tmp_path, ACTIONBUS_ELASTICSEARCH_URL="embedded")
    assert_sentence(done, "there is no database", "mistyped.db", "actionbus db upgrade")
    assert list(tmp_path.iterdir()) == []


def test_the_database_is_made_by_the_command_that_makes_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'folder' / 'new.db'}"
    assert tool(url, "db", "upgrade").returncode == 0
    assert tool(url, "log").returncode == 0


@pytest.mark.parametrize("app", ["no.such.module:app", "nonsense", "json:dumps", "tests.adapters.broken:app"])
@pytest.mark.parametrize("words", ["actionbus run ", "actionbus run deposit --", "actionbus lo", "actionbus replay "])
def test_completion_is_silent_where_the_application_cannot_be_loaded(sqlite_url: URL, app: str, words: str) -> None:
    done = tool(
        sqlite_url, ACTIONBUS_APP=app, _ACTIONBUS_COMPLETE="bash_complete", COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == ""
    assert "run deposit" in words or words == "actionbus run " or done.stdout


def test_a_message_of_several_lines_is_one() -> None:
    done = tool("postgresql://127.0.0.1:1/x", "log")
    assert_sentence(done, "the database cannot be reached")
    assert len(done.stderr.splitlines()) == 1
    assert "\\n" not in done.stderr


@pytest.mark.parametrize("words", [["log", "-n", "5000"], ["log", "--json"], ["actions"], ["completion", "bash"]])
def test_a_reader_that_has_read_enough_is_no_failure(sqlite_url: URL, words: list[str]) -> None:
    prepared(sqlite_url)
    with Bus(notes_application(), sqlite_url) as bus:
        bus.execute("put_note", {"note": "a", "text": "b", "shelves": []})
    read, write = os.pipe()
    os.close(read)
    env = environment(sqlite_url) | {"ACTIONBUS_APP": "tests.projections.notes_app:app"}
    command = [sys.executable, "-m", "actionbus", *words]
    done = subprocess.run(command, env=env, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
