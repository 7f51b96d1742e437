"""What goes wrong on the command line is said in a sentence, on one line, and nothing is made by commands that read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters import database
from actionbus.adapters.cli.main import main
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.library.app import library
from actionbus.adapters.library.models import Base
from actionbus.adapters.wiring import bus_for
from actionbus.projections import Projector
from tests import processes
from tests.conftest import prepared
from tests.helpers import ROOT, environment
from tests.projections.notes.app import make_application as notes_application

READING = [
    ["log"],
    ["show", "1"],
    ["runs", "list"],
    ["journal", "stats"],
    ["journal", "export", "x.gz"],
    ["journal", "recover"],
    ["db", "current"],
    ["search", "x"],
    ["projections", "status"],
    ["projections", "run", "--once"],
    ["projections", "prune"],
    ["replay", "verify"],
    ["history", "state"],
    ["history", "diff", "start", "end"],
    ["history", "blame", "accounts", "1"],
    ["history", "status"],
    ["history", "install", "accounts"],
    ["replay", "run"],
    ["history", "documents", "notes"],
    ["run", "put_note", "--note", "a"],
    ["serve", "--authenticate", "none"],
    ["worker"],
    ["up"],
    ["runs", "retry", "01a22a3a-94d5-7ebf-bb43-461cc6fae3ac"],
    ["runs", "pause", "actions"],
]
"""Every command that needs a journal which is there."""


def tool(url: URL | str, *words: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `actionbus` in a process of its own."""
    at = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    env = environment(url) if isinstance(url, URL) else os.environ | {"PYTHONPATH": str(ROOT)}
    env |= {"ACTIONBUS_APP": "tests.projections.notes_app:app", "ACTIONBUS_DATABASE_URL": at} | more
    command = [sys.executable, "-m", "actionbus", *words]
    return processes.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


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
    ],
)
def test_a_value_out_of_range_is_said_in_a_sentence(sqlite_url: URL, words: list[str], told: str) -> None:
    prepared(sqlite_url)
    assert_sentence(tool(sqlite_url, *words), told)


WRONG = [
    (["--broker", "redis://h/0?bad=1", "runs", "list"], "not a broker's URL"),
    (["--broker", "amqp://h?bad=1", "runs", "list"], "not a broker's URL"),
    (["--broker", "nosuch://h", "runs", "list"], "not a broker's URL"),
    (["--broker", "confluentkafka://h", "runs", "list"], "needs what is not installed"),
    (["--database", "postgresql://h:abc/x", "log"], "database URL cannot be read"),
    (["--database", "postgresql://h:abc/x", "db", "current"], "database URL cannot be read"),
    (["--schema", "nosuch", "log"], "--schema"),
    (["--schema", "nosuch", "token", "list"], "--schema"),
    (["token", "add", "ana", "--days", "nan"], "is not a number"),
    (["serve", "--patience", "nan"], "is not a number"),
    (["log", "--touching", ":"], "names no table"),
    (["log", "--touching", "nosuch"], "there is no table 'nosuch', nor was there one; there are: "),
    (["log", "--touching", "nosuch:1"], "there is no table 'nosuch'"),
    (["log", "--action", "nosuch"], "there is no action 'nosuch', nor was there one; there are: "),
    (["journal", "stream", "--action", "nosuch"], "there is no action 'nosuch', nor was there one; there are: "),
    (["search", "--facet", "nosuch"], "has no field 'nosuch' to filter and count by; there are: "),
    (["search", "x", "--where", "nosuch=1"], "has no field 'nosuch' to filter and count by; there are: "),
]


@pytest.fixture
def library_here(sqlite_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference application with a kit in its documents, for commands in this process that name none."""
    with bus_for(library, sqlite_url) as bus:
        database.upgrade(bus.engine)
        Base.metadata.create_all(bus.engine)
        bus.execute("create_kit", {"name": "a"}, actor="ana")
        Projector(bus, EmbeddedStore(bus.engine)).catch_up()
    for name in [name for name in os.environ if name.startswith("ACTIONBUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ACTIONBUS_DATABASE_URL", sqlite_url.render_as_string(hide_password=False))
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", "embedded")
    monkeypatch.setenv("COLUMNS", "300")


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """Runs a command in this process: exit code, standard output, standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["actionbus", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


@pytest.mark.parametrize(("words", "told"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_name_that_is_none_is_told(library_here: None, here: Here, words: list[str], told: str) -> None:
    code, out, error = here(*words)
    assert (code, out) == (2, "")
    assert told in error


@pytest.mark.parametrize(
    "words",
    [
        ["log", "--action", "create_kit"],
        ["log", "--touching", "kits"],
        ["log", "--touching", "assets"],
        ["search", "--in", "kits", "a", "--facet", "owner"],
        ["search", "--where", "kind=icon"],
    ],
    ids=" ".join,
)
def test_a_name_that_is_one_is_none_the_less_if_nothing_has_it(
    library_here: None, here: Here, words: list[str]
) -> None:
    assert here(*words)[0] == 0


SAYS = "the application is the bundled reference"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["log"], False),
        (["log", "--json"], False),
        (["actions"], True),
        (["db", "upgrade", "--models"], True),
        (["run", "create_kit", "--name", "x", "--actor", "ana", "--json"], True),
        (["runs", "list"], True),
        (["db", "upgrade"], False),
        (["db", "current"], False),
        (["run", "create_kit", "--help"], False),
        (["--version"], False),
        (["completion", "bash"], False),
        (["elasticsearch", "status"], False),
        (["--app", "actionbus.adapters.library.app:library", "log"], False),
    ],
    ids=str,
)
def test_who_names_no_application_is_told_whose_actions_these_are(
    library_here: None, here: Here, words: list[str], said: bool
) -> None:
    """Once, and on standard error, where no program looks for JSON."""
    _, out, error = here(*words)
    assert error.count(SAYS) == said
    assert SAYS not in out


WITHOUT = [
    ["projections", "status"],
    ["projections", "run", "--once"],
    ["projections", "rebuild", "kits"],
    ["projections", "prune"],
    ["search", "x"],
    ["log"],
    ["runs", "list"],
    ["history", "status"],
    ["history", "install", "accounts"],
    ["history", "baseline", "accounts"],
]


@pytest.mark.parametrize("words", WITHOUT, ids=" ".join)
def test_a_database_without_a_journal_is_told_alike(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (tmp_path / "empty.db").touch()
    monkeypatch.setenv("ACTIONBUS_DATABASE_URL", f"sqlite:///{tmp_path / 'empty.db'}")
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", "embedded")
    code, _, error = here(*words)
    assert code in (2, 5)
    assert "the database has no journal; run `actionbus db upgrade`" in error


@pytest.mark.parametrize("words", [["log"], ["search", "a"]], ids=" ".join)
def test_files_of_the_folder_are_imported_for_a_named_application_only(
    sqlite_url: URL, tmp_path: Path, words: list[str]
) -> None:
    """Not for the bundled one: a file may be called like a module that something of ours imports."""
    prepared(sqlite_url)
    for name in ("celery", "yaml", "elasticsearch", "flask", "prometheus_client"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of this folder was imported')\n")
    script = Path(sys.executable).with_name("actionbus")
    at = sqlite_url.render_as_string(hide_password=False)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ACTIONBUS_", "PYTHONPATH"))}
    env |= {"ACTIONBUS_DATABASE_URL": at, "ACTIONBUS_ELASTICSEARCH_URL": "http://127.0.0.1:1"}
    env |= {"ACTIONBUS_BROKER_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run([script, *words], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "of this folder" not in done.stdout + done.stderr


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


COMPLETED = {
    "actionbus run ": "",
    "actionbus run deposit --": "plain,--",
    "actionbus lo": "plain,log",
    "actionbus replay ": "plain,debug",
}
"""What there is to offer without the application."""


@pytest.mark.parametrize("app", ["no.such.module:app", "nonsense", "json:dumps", "tests.adapters.broken:app"])
@pytest.mark.parametrize(("words", "offered"), COMPLETED.items())
def test_completion_is_silent_where_the_application_cannot_be_loaded(
    sqlite_url: URL, app: str, words: str, offered: str
) -> None:
    done = tool(
        sqlite_url,
        ACTIONBUS_APP=app,
        _ACTIONBUS_COMPLETE="bash_complete",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith(offered) if offered else done.stdout.strip() == ""


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
    done = processes.run(command, env=env, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/x", "postgresql://nohost.invalid/x"])
@pytest.mark.parametrize(
    "words", [["log"], ["run", "put_note"], ["runs", "list"], ["db", "upgrade"], ["db", "current"]]
)
def test_a_database_that_is_away_is_told_once_in_its_own_words(url: str, words: list[str]) -> None:
    done = tool(url, *words)
    assert_sentence(done, "error: the database cannot be reached")
    assert done.returncode == 5
    assert len(re.findall("refused|could not translate", done.stderr)) == 1, "the reason, once"
    assert not re.search(r"sqlalche\.me|psycopg2|Background", done.stderr), done.stderr


BROKEN = {
    "import nothing_there": "cannot be imported: ModuleNotFoundError: No module named 'nothing_there' (",
    "raise ValueError('no config')": "cannot be imported: ValueError: no config (",
    "def f(:": "cannot be imported: SyntaxError: invalid syntax",
    "raise SystemExit('bye')": "cannot be imported: SystemExit: bye (",
    "1 / 0": "cannot be imported: ZeroDivisionError: division by zero (",
    "app = 5": "'broken:app' is a int, not an Application",
    "other = 5": "'broken:app': the module has no 'app'",
    "from actionbus import Application\napp = Application('x', actions=[], queues=5)": "queues: expected a list of Queue",
    "from actionbus import Application\napp = Application('x', actions=['nowhere'])": "'nowhere' cannot be imported",
}


@pytest.mark.parametrize("source", BROKEN)
@pytest.mark.parametrize("words", [["actions"], ["db", "upgrade", "--models"]])
def test_an_application_that_does_not_import_is_told_with_the_place_and_makes_nothing(
    tmp_path: Path, source: str, words: list[str]
) -> None:
    (tmp_path / "broken.py").write_text(f"\n{source}\n")
    done = tool("sqlite:///new.db", *words, cwd=tmp_path, ACTIONBUS_APP="broken:app")
    assert_sentence(done, BROKEN[source])
    assert done.returncode == 2
    assert not BROKEN[source].endswith("(") or "broken.py, line 2)" in done.stderr
    assert not (tmp_path / "new.db").exists()


def test_an_application_without_models_is_said_to_have_none(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text("from actionbus import Application\napp = Application('x', actions=[])\n")
    done = tool("sqlite:///new.db", "db", "upgrade", "--models", cwd=tmp_path, ACTIONBUS_APP="bare:app")
    assert "the application declares none" in done.stdout
