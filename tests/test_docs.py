"""Every code block of the README and the docs runs, in the order in which a reader meets it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from core import Bus
from tests.conftest import BusFactory, query
from tests.core.test_gateway import opened

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.M | re.S)


def blocks(file: str) -> list[tuple[str, str, str]]:
    return BLOCK.findall((ROOT / file).read_text())


def run_blocks(file: str, folder: Path, **settings: str) -> int:
    """Run the blocks of a document; those that begin with a file's name become that file. How many were run."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACTIONBUS_")}
    env = kept | {"PATH": path, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"} | settings
    ran = 0
    for language, _, code in blocks(file):
        if named := re.match(r"# ([\w/]+\.py)\n", code):
            put(folder, folder / named[1], code)
            continue
        python = [sys.executable, "-W", "error", "-c", code]
        command = python if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        ran += 1
    return ran


def put(folder: Path, file: Path, code: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    for each in (file.parent, *file.parent.parents):
        if each == folder:
            break
        (each / "__init__.py").touch()


def test_the_readme_runs_as_it_is_written(tmp_path: Path) -> None:
    assert run_blocks("README.md", tmp_path, ACTIONBUS_ELASTICSEARCH_URL="embedded") >= 3


@pytest.mark.parametrize("where", ["embedded", "elasticsearch"])
def test_the_guide_to_projections_runs_as_it_is_written(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    url = where
    if where == "elasticsearch":
        request.getfixturevalue("elasticsearch_store")
        url = request.getfixturevalue("elasticsearch_url")
    assert run_blocks("docs/projections.md", tmp_path, ACTIONBUS_ELASTICSEARCH_URL=url) == 3


def test_every_query_of_the_docs_runs(make_bus: BusFactory, url: URL) -> None:
    bus: Bus = opened(make_bus(), 1, 2)
    bus.execute("deposit", {"id": 1, "amount": 5}, actor="ann")
    found = []
    for language, dialect, code in blocks("docs/sql.md"):
        assert language == "sql"
        if dialect in ("", bus.engine.dialect.name):
            found += [query(url, statement) for statement in code.split(";\n") if statement.strip()]
    assert [len(rows) > 0 for rows in found] == [True, False, False, True, True, True]


@pytest.mark.parametrize(
    "file", ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
)
def test_every_link_leads_somewhere(file: str) -> None:
    text = (ROOT / file).read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / file).parent / link).exists(), link


def test_every_setting_and_command_is_documented() -> None:
    sources = "".join(
        path.read_text() for folder in ("core", "projections", "adapters") for path in (ROOT / folder).rglob("*.py")
    )
    told = "".join((ROOT / file).read_text() for file in ("README.md", "docs/actions.md", "docs/projections.md"))
    assert {name for name in set(re.findall(r"ACTIONBUS_[A-Z_]+", sources)) if name not in told} == set()


def test_guarantees_name_tests_that_are_there() -> None:
    for name in re.findall(r"`(test_\w+\.py)`", (ROOT / "docs/guarantees.md").read_text()):
        assert [*(ROOT / "tests").rglob(name)], name
