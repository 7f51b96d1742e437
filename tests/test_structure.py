"""Who may import whom; that framework and reference application part cleanly; that users' code type-checks."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"core", "adapters", "projections", "replay"}
ALLOWED_IN_CORE = {"marshmallow", "orjson", "psycopg2", "sqlalchemy"}
MAY_IMPORT = {"core": {"core"}, "projections": {"core", "projections"}, "replay": {"core", "projections", "replay"}}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("room", [room for room in MAY_IMPORT if (ROOT / room).exists()])
def test_arrows_point_one_way(room: str) -> None:
    for path in files(room):
        tops = {name.split(".")[0] for name in imported(path)}
        assert tops & OURS <= MAY_IMPORT[room], path
        if room == "core":
            assert tops - set(sys.stdlib_module_names) - OURS <= ALLOWED_IN_CORE, path


def test_core_knows_nothing_of_the_reference_application() -> None:
    for path in files("core"):
        if "actions" not in path.relative_to(ROOT).parts:
            assert not any(name.startswith("core.actions") for name in imported(path)), path


def test_actions_import_core_alone_and_never_each_other() -> None:
    names = {f"core.actions.{path.stem}" for path in files("core/actions")}
    for path in files("core/actions"):
        found = imported(path)
        assert {name.split(".")[0] for name in found} & OURS <= {"core"}
        assert not found & names, path


def test_every_module_says_what_it_is() -> None:
    for path in [*files("core"), *files("projections"), *files("replay"), *files("adapters")]:
        assert ast.get_docstring(ast.parse(path.read_text())), path


SHORT = [
    "tests/core/test_gateway.py",
    "tests/core/test_recorder.py",
    "tests/core/test_registry.py",
    "-k",
    "not postgresql",
]
"""Tests that need no server, and go through most of the framework."""


def test_without_the_reference_application_the_frameworks_tests_pass(tmp_path: Path) -> None:
    """All of them are collected, and some run that need no server; in `make torture` all of them run."""
    for folder in ("core", "projections", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.rmtree(tmp_path / "core" / "actions")
    shutil.rmtree(tmp_path / "projections" / "library")
    for folder in ("library", "adapters"):
        shutil.rmtree(tmp_path / "tests" / folder)
    every = ["tests/core", "tests/projections"]
    whole = os.environ.get("ACTIONBUS_TORTURE") == "1"
    for chosen in (["--collect-only", *every], every if whole else SHORT):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", *chosen]
        env = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
        assert ("collected" if "--collect-only" in chosen else " passed") in done.stdout


SMALL_APPLICATION = {
    "shop/__init__.py": "",
    "shop/actions/__init__.py": "",
    "shop/repo.py": '''"""The shop's repo."""

from uuid import UUID

from sqlalchemy.orm import Session


class Asset:
    """An asset."""

    id: UUID


class AssetRepo:
    """Reads and writes."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def kit_exists(self, kit_id: UUID) -> bool:
        """Whether there is such a kit."""
        return bool(self.session and kit_id)

    def add_asset(self, *, id: UUID, kit_id: UUID, name: str, **more: object) -> Asset:
        """A new asset."""
        return Asset()


def repo(session: Session) -> AssetRepo:
    """Provider."""
    return AssetRepo(session)
''',
    "shop/actions/add_asset.py": '''"""Add an asset."""

from datetime import datetime
from typing import Any
from uuid import UUID

from marshmallow import validate

from core import ActionHandler, Arg
from shop.repo import AssetRepo


class AddAsset(ActionHandler):
    """Add an asset to a kit."""

    version = 1
    requires = ["repo", "ids"]
    arguments = {
        "kit_id": Arg(type=UUID, required=True),
        "name": Arg(type=str, required=True, validator=validate.Length(max=120)),
        "kind": Arg(type=str, options=["icon", "photo"], default="icon"),
        "tags": Arg(type=list[str], default=list),
        "taken_at": Arg(type=datetime),
    }
    permission = "assets:write"
    repo: AssetRepo
    ids: Any

    def validate(self) -> None:
        if not self.repo.kit_exists(self.args.kit_id):
            self.reject("kit_id", "no such kit")

    def execute(self) -> dict[str, Any]:
        asset = self.repo.add_asset(id=self.ids.uuid(), **self.args)
        return {"asset_id": asset.id}
''',
    "shop/app.py": '''"""The shop."""

from typing import Any

from sqlalchemy.orm import DeclarativeBase

from core import Application, Bus, Outcome, PermissionDenied, outside, pure
from shop.repo import repo


class Base(DeclarativeBase):
    """Metadata."""


class Checkpoint:
    """Asks."""

    def __init__(self, actor: str | None) -> None:
        self.actor = actor

    def require(self, permission: str, arguments: Any) -> None:
        """Refuse."""
        if self.actor is None:
            raise PermissionDenied(permission)


class Mailer:
    """Sends."""


class Serializer:
    """Dumps."""

    def dump(self, value: Any) -> Any:
        """As it is."""
        return value


app = Application(
    name="shop",
    actions=["shop.actions"],
    models=Base.metadata,
    dependencies={"repo": repo, "checkpoint": Checkpoint, "mailer": outside(Mailer), "serializer": pure(Serializer)},
)


def main() -> Outcome:
    """Use everything."""
    bus = Bus(app, "sqlite://")
    runner = bus.runner(actor="user-7", correlation_id="c", context={"ip": "::1"})
    outcome = runner.execute("add_asset", {"kit_id": "x"}, idempotency_key="k")
    print(outcome.status, outcome.result, outcome.action_id, outcome.position, outcome.repeated)
    for record in bus.journal.read(after=0, limit=1000, action="add_asset"):
        print(record.position, record.arguments)
    print(bus.journal.get(outcome.action_id), bus.journal.history(outcome.action_id))
    return bus.execute("add_asset", {}, actor="x")
''',
}


def test_an_application_like_the_documented_one_is_clean_for_mypy_and_ruff(tmp_path: Path) -> None:
    """Ruff's newer defaults hold RUF012, which wants ClassVar on every dict of a class: see decision 8."""
    for folder, spelt in (("shop", lambda source: source), ("strict_shop", with_classvar)):
        for name, source in SMALL_APPLICATION.items():
            file = tmp_path / name.replace("shop", folder, 1)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(spelt(source).replace("from shop.", f"from {folder}."))
    env = os.environ | {"MYPYPATH": str(ROOT), "MYPY_CACHE_DIR": str(tmp_path / ".cache")}
    for command in (
        ["mypy", "--strict", "--config-file", "/dev/null", "shop", "strict_shop"],
        ["ruff", "check", "--isolated", "--select", "E4,E7,E9,F", "shop"],
        ["ruff", "check", "--isolated", "strict_shop"],
        ["ruff", "format", "--isolated", "--check", "--line-length", "120", "shop", "strict_shop"],
    ):
        line = [sys.executable, "-m", *command]
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def with_classvar(source: str) -> str:
    return (
        source.replace('requires = ["repo", "ids"]', 'requires = ("repo", "ids")')
        .replace("    arguments = {", "    arguments: ClassVar[dict[str, Arg]] = {")
        .replace("from typing import Any\nfrom uuid", "from typing import Any, ClassVar\nfrom uuid")
        .replace("from marshmallow import validate\n\nfrom core import ActionHandler, Arg\n",
                 "from core import ActionHandler, Arg\nfrom marshmallow import validate\n\n")
        .replace("from sqlalchemy.orm import DeclarativeBase\n\nfrom core import Application, Bus, Outcome, PermissionDenied, outside, pure\n",
                 "from core import Application, Bus, Outcome, PermissionDenied, outside, pure\nfrom sqlalchemy.orm import DeclarativeBase\n\n")
    )  # fmt: skip
