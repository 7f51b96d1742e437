"""Every code block of the README and the docs runs, in the order in which a reader meets it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from sqlalchemy.engine import URL

from actionbus.adapters import settings
from actionbus.adapters.cli.main import group as actionbus
from tests.conftest import BusFactory, query
from tests.doc_blocks import INSTALLED, NAMED, blocks, run_blocks, run_blocks_with
from tests.helpers import ROOT, opened, subcommands
from tests.servers import Redis
from tests.shells import forking

GUIDES = (
    "actions",
    "projections",
    "http",
    "reading",
    "queue",
    "outside-calls",
    "testing",
    "cli",
    "history",
    "archives",
    "privacy",
    "replay",
    "inspector",
)


def script_of(file: str, folder: Path) -> str:
    """All blocks of a document as one script, for one terminal; those marked `background` run beside it."""
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for number, (language, how, code) in enumerate(blocks(file)):
        if language == "text":
            continue
        if named := NAMED.match(code):
            lines += [f"mkdir -p {Path(named[1]).parent}; cat > {named[1]} <<'END OF FILE'\n{code}END OF FILE"]
        else:
            lines += [f"{{ {code.strip()}; }} > {folder}/background-{number}.log 2>&1 &" if how else code]
    return "\n".join(lines)


@pytest.mark.early
def test_the_readme_runs_as_it_is_written(tmp_path: Path) -> None:
    """With what is installed, every command started."""
    assert run_blocks_with(INSTALLED, "README.md", tmp_path, ACTIONBUS_ELASTICSEARCH_URL="embedded") >= 3


@pytest.mark.early
@pytest.mark.timeout(900)
def test_the_guide_to_debugging_runs_as_it_is_written(tmp_path: Path) -> None:
    """In one terminal; what it prints is as the guide shows it, but for ids and times."""
    command = ["bash", "-c", script_of("docs/debugging.md", tmp_path)]
    with forking("actionbus", "python") as commands:
        env = os.environ | {
            "PATH": os.pathsep.join((commands, INSTALLED, os.environ["PATH"])),
            "COLUMNS": "160",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
            "PYTHONDONTWRITEBYTECODE": "1",  # it edits modules; one of the same length and second passes for compiled
        }
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout + done.stderr
    for told in (
        "name: Fox → Fox in the snow at t",
        "kind: icon → photo",
        "release         2.4",
        "bypass",
        "whole",
        "7 same, 1 divergent, 0 concurrent, 0 order, 0 retired, 0 unplayable",
        "recorded Fox in the snow at t, now Fox in the snow at the edge of the forest",
        "rename_asset succeeded, on 3 rows",
        "1 passed",
        "1 failed",
    ):
        assert told in printed, printed
        assert told in (ROOT / "docs/debugging.md").read_text() or told == "1 failed"
    assert re.findall(r"position (\d+): [\d :-]+ rename_asset ben", printed) == ["12", "12"], printed


@pytest.mark.early
@pytest.mark.timeout(900)
def test_the_tutorial_walked_by_a_stranger(tmp_path: Path, wheels: Path) -> None:
    """On a machine that has nothing of ours: the wheel is built, and `pip install` finds it as it would on PyPI."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    base = Path(sys.base_prefix) / "bin"
    env = kept | {
        "HOME": str(home),
        "PATH": f"{base}:/usr/bin:/bin",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_PRE": "",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_COMPILE": "0",
    }
    folder = tmp_path / "walk"
    folder.mkdir()
    walking = subprocess.Popen(
        ["bash", "-c", script_of("docs/tutorial.md", folder)],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = walking.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(walking.pid, signal.SIGTERM)  # what runs in the background, and what that started
    logs = "".join(path.read_text()[-2000:] for path in folder.glob("background-*.log"))
    assert walking.returncode == 0, printed[-6000:] + logs
    assert "exit code 3: rejected" in printed
    assert "2 passed" in printed


@pytest.mark.parametrize("where", ["embedded", "elasticsearch"])
def test_the_guide_to_projections_runs_as_it_is_written(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    url = where
    if where == "elasticsearch":
        request.getfixturevalue("elasticsearch_store")
        url = request.getfixturevalue("elasticsearch_url")
    assert run_blocks("docs/projections.md", tmp_path, ACTIONBUS_ELASTICSEARCH_URL=url) == 4


@pytest.mark.parametrize(
    ("guide", "ran"),
    [
        ("http", 2),
        ("reading", 1),
        ("outside-calls", 2),
        ("testing", 1),
        ("cli", 2),
        ("history", 3),
        ("archives", 2),
        ("privacy", 2),
        ("search", 1),
        ("inspector", 1),
        ("subscriptions", 3),
    ],
)
def test_a_guide_runs_as_it_is_written(tmp_path: Path, guide: str, ran: int) -> None:
    assert run_blocks(f"docs/{guide}.md", tmp_path) == ran


def test_the_guide_to_queues_runs_as_it_is_written(tmp_path: Path, redis: Redis) -> None:
    assert run_blocks("docs/queue.md", tmp_path, ACTIONBUS_BROKER_URL=redis.url) == 5


def test_every_query_of_the_docs_runs(make_bus: BusFactory, url: URL) -> None:
    bus = make_bus()
    bus.create()
    opened(bus, 1, 2).execute("deposit", {"id": 1, "amount": 5}, actor="ann")
    found = []
    for language, dialect, code in blocks("docs/sql.md"):
        assert language == "sql"
        if dialect in ("", bus.engine.dialect.name):
            found += [query(url, statement) for statement in code.split(";\n") if statement.strip()]
    assert [len(rows) > 0 for rows in found] == [True, False, False, True, True, True]


def test_the_settings_for_a_large_journal_are_ones(make_postgres_bus: BusFactory) -> None:
    bus = make_postgres_bus()
    for language, _, code in blocks("docs/scale.md"):
        assert language == "sql"
        query(bus.engine.url, code)
    found = query(
        bus.engine.url,
        "SELECT count(*) FROM pg_class WHERE 'autovacuum_vacuum_insert_threshold=1000000' = ANY (reloptions)",
    )
    assert found == [(2,)]


@pytest.mark.parametrize(
    "file", ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
)
def test_every_link_leads_somewhere(file: str) -> None:
    text = (ROOT / file).read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / file).parent / link).exists(), link


def guides() -> str:
    return "".join(
        (ROOT / file).read_text() for file in ("README.md", *(f"docs/{each}.md" for each in (*GUIDES, "subscriptions")))
    )


def test_every_setting_is_on_the_page_which_is_made_of_them() -> None:
    assert (ROOT / "docs/settings.md").read_text() == settings.page()
    folders = ("core", "projections", "replay", "adapters", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    read = {name for path in files for name in re.findall(r"\bACTIONBUS_([A-Z_]+[A-Z])", path.read_text())}
    of_click, only_the_beginning = {"COMPLETE"}, {"ELASTICSEARCH"}
    written_in_two = {"ELASTICSEARCH_API_KEY", "ELASTICSEARCH_CA_CERTS"}
    assert {each.name for each in settings.SETTINGS} == read - of_click - only_the_beginning | written_in_two


def commands(group: click.Command, *before: str) -> Iterator[str]:
    for name, command in subcommands(group).items():
        if name != "run" and subcommands(command):  # `run` has a command per action
            yield from commands(command, *before, name)
        elif not command.hidden:
            yield " ".join((*before, name))


def test_every_command_is_documented() -> None:
    assert "history bisect" in commands(actionbus)
    assert [command for command in commands(actionbus) if not re.search(rf"\b{command}\b", guides())] == []


OF_EXAMPLES = {"tests/test_kits.py", "tests/test_guestbook.py"}


def test_the_files_that_documents_name_are_there() -> None:
    named = re.compile(r"\b((?:actionbus|core|projections|replay|adapters|tests|benchmarks)/[\w/]+\.py)")
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    found = {file for page in pages for file in named.findall(page.read_text())}
    assert {file for file in found - OF_EXAMPLES if not (ROOT / file).exists()} == set()


def test_the_walk_of_the_architecture_names_files_that_are_there() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    rooms = re.compile(r"(?<!/)\b((?:values|secrecy|declare|storage|gateway|queueing|history|browsing)/\w+\.py)")
    found = set(rooms.findall(page))
    assert len(found) > 15
    assert {file for file in found if not (ROOT / "core" / file).exists()} == set()
    inside = re.findall(r"`([A-Za-z_.]+)`,? (?:in|of) `([\w/]+\.py)`", page)
    assert len(inside) > 5
    for name, file in inside:
        text = next(each for each in (ROOT / "core" / file, ROOT / file) if each.exists()).read_text()
        assert name.rpartition(".")[2] in text, (name, file)


def test_guarantees_name_tests_that_are_there() -> None:
    for name in re.findall(r"`((?:\w+/)?test_\w+\.py|\w+/\w+/)`", (ROOT / "docs/guarantees.md").read_text()):
        assert len([*(ROOT / "tests").rglob(name)]) == 1, name
