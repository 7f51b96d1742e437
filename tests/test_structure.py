"""Who may import whom; that framework and reference application part cleanly; that users' code type-checks."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_type_hints
from uuid import UUID

import pytest

import actionbus.core
from actionbus.core.values.tagged import class_name
from tests.conftest import TORTURE
from tests.helpers import ROOT
from tests.sources import FOLDERS, PUBLIC, files

ALLOWED_IN_CORE = {"cronsim", "cryptography", "marshmallow", "orjson", "psycopg2", "sqlalchemy"}
MAY_IMPORT = {"core": {"core"}, "projections": {"core", "projections"}, "replay": {"core", "projections", "replay"}}


def imported(path: Path) -> set[str]:
    """The modules that a file imports from, and those it may import by name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def ours(path: Path) -> set[str]:
    """Of the modules a file imports, ours, without the first name."""
    return {name.removeprefix("actionbus.") for name in imported(path) if name.partition(".")[0] == "actionbus"}


@pytest.mark.parametrize("folder", [folder for folder in MAY_IMPORT if (ROOT / folder).exists()])
def test_arrows_point_one_way(folder: str) -> None:
    for path in files(folder):
        if path.parent.name.endswith("actions"):  # those import public names, see below
            continue
        assert {name.partition(".")[0] for name in ours(path)} <= MAY_IMPORT[folder], path
        if folder == "core":
            tops = {name.partition(".")[0] for name in imported(path)}
            assert tops - set(sys.stdlib_module_names) - {"actionbus"} <= ALLOWED_IN_CORE, path


def test_core_knows_nothing_of_the_reference_application() -> None:
    for path in files("core"):
        if not any(part.endswith("actions") for part in path.relative_to(ROOT).parts):
            assert not any(name.startswith("core.actions") for name in ours(path)), path


@pytest.mark.parametrize("folder", ["core/actions", "adapters/library"])
def test_the_reference_application_uses_public_names_alone(folder: str) -> None:
    own = {"actionbus.core.actions", "actionbus.adapters.library"}
    for path in files(folder):
        found = {name for name in imported(path) if name.partition(".")[0] == "actionbus"}
        assert {name for name in found if not name.startswith(tuple(own))} <= PUBLIC, path


def test_actions_never_import_each_other() -> None:
    names = {f"core.actions.{path.stem}" for path in files("core/actions")}
    for path in files("core/actions"):
        assert not ours(path) & names, path


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_has_one_name(folder: str) -> None:
    """Loaded under its bare name as well, an error would be another class than the one that is caught."""
    code = f"import importlib, sys; sys.path.insert(0, {str(ROOT)!r})\n"
    code += f"try:\n    importlib.import_module({folder!r})\nexcept ImportError as error:\n    print(error)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"import it as actionbus.{folder}" in done.stdout


def test_every_package_is_installed() -> None:
    """pyproject.toml lists them, since no tool finds packages whose folders have other names."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {path.parent.relative_to(ROOT) for folder in FOLDERS for path in files(folder)}
    assert listed == {"actionbus", *(".".join(("actionbus", *path.parts)) for path in there)}


def test_public_names_say_where_they_are_imported_from() -> None:
    for name in actionbus.__all__:
        if isinstance(found := getattr(actionbus, name), type):
            assert (found.__module__, found.__qualname__) == ("actionbus", name)
    assert class_name(actionbus.Misuse) == "actionbus:Misuse", "as the journal has it"
    assert set(actionbus.__all__) == set(actionbus.core.__all__)


@pytest.mark.parametrize("module", sorted(PUBLIC - {"actionbus.__main__", "actionbus.__init__"}))
def test_what_public_classes_are_annotated_with_can_be_looked_up(module: str) -> None:
    """Wherever a class says that it lies: frameworks and tools of applications ask for it."""
    found = importlib.import_module(module)
    classes = [each for each in (getattr(found, name) for name in dir(found)) if isinstance(each, type)]
    for each in (each for each in classes if each.__module__.startswith("actionbus")):
        hints = get_type_hints(each, include_extras=True)
        assert hints.keys() >= inspect.get_annotations(each).keys(), each
        for function in filter(inspect.isfunction, vars(each).values()):
            get_type_hints(function)
    assert get_type_hints(actionbus.Outcome)["action_id"] is UUID


def test_every_module_says_what_it_is() -> None:
    for path in [*files("actionbus"), *(path for folder in FOLDERS for path in files(folder))]:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def installed(folder: Path) -> Path:
    """The package as the wheel lays it out, with what is compiled of it already."""
    package = folder / "actionbus"
    for each in ("actionbus", *FOLDERS):
        shutil.copytree(ROOT / each, package / (each if each in FOLDERS else ""))
    return package


SHORT = ["-k", "(test_gateway.py or test_registry.py) and not postgresql"]
"""Tests that need no server, and go through most of the framework."""


MISSING = """raise ModuleNotFoundError("the reference application is not here", name=__name__)"""
"""In the place of a part. Were it not there at all, the finder of the editable install would find the repository's."""


def test_without_the_reference_application_the_frameworks_tests_pass(tmp_path: Path) -> None:
    """All of them are collected, and some run that need no server; in `make torture` all of them run."""
    package = installed(tmp_path)
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for part in ("core/actions", "adapters/library"):
        shutil.rmtree(package / part)
        (package / part).mkdir()
        (package / part / "__init__.py").write_text(MISSING)
    shutil.rmtree(tmp_path / "tests" / "adapters")
    chosen = [] if TORTURE else SHORT
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-x",
        "tests/core",
        "tests/projections",
        *chosen,
    ]
    env = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 40
    assert TORTURE or int(re.findall(r"(\d+) deselected", done.stdout)[0]) > 2_000, "all are collected"


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

from actionbus import ActionHandler, Arg
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

from actionbus import Application, Bus, Outcome, PermissionDenied, outside, pure
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


USE = '''"""What is wrong here is known to be: `mypy --strict` complains of an ignore that ignores nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from actionbus import ActionHandler, ActionRunner
from shop.typed import typed

if TYPE_CHECKING:
    from shop.typed import AddAssetArgs


class Wrong(ActionHandler):
    """Read what is there and what is not."""

    args: AddAssetArgs

    def execute(self) -> None:
        """Do it."""
        found: UUID = self.args.kit_id
        print(found, self.args.kitid)  # type: ignore[attr-defined]
        self.args.name.upper()


def use(untyped: ActionRunner) -> None:
    """Call what is there and what is not."""
    runner = typed(untyped)
    outcome = runner.execute("add_asset", {"kit_id": "x", "name": "y"})
    print(outcome.result["asset_id"], outcome.position)
    runner.execute("add_asset", {"kit_id": "x"})  # type: ignore[typeddict-item]
    runner.execute("add_asset", {"kit_id": "x", "name": "y", "kind": "z"})  # type: ignore[typeddict-item]
    runner.execute("add_assets", {"kit_id": "x", "name": "y"})  # type: ignore[arg-type]
    ticket = runner.execute_async("add_asset", {"kit_id": "x", "name": "y"}, countdown=5)
    print(ticket.state, ticket.wait(5).result["asset_id"])
    runner.execute_async("add_asset", {"kit_id": "x"})  # type: ignore[typeddict-item]
    runner.execute_async("add_asset", {"kit_id": "x", "name": "y"}, delay=5)  # type: ignore[call-arg]
'''


def test_an_application_like_the_documented_one_is_clean_for_mypy_and_ruff(tmp_path: Path) -> None:
    """Ruff's newer defaults hold RUF012, which wants ClassVar on every dict of a class: see decision 8."""
    for folder, spelt in (("shop", lambda source: source), ("strict_shop", with_classvar)):
        for name, source in SMALL_APPLICATION.items():
            file = tmp_path / name.replace("shop", folder, 1)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(spelt(source).replace("from shop.", f"from {folder}."))
    typed = subprocess.run(
        [sys.executable, "-m", "actionbus", "--app", "shop.app:app", "stubs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    (tmp_path / "shop" / "typed.py").write_text(typed.stdout)
    (tmp_path / "shop" / "use.py").write_text(USE)
    env = os.environ | {"MYPYPATH": str(installed(tmp_path / "site").parent), "MYPY_CACHE_DIR": os.devnull}
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
        .replace(
            "from marshmallow import validate\n\nfrom actionbus import ActionHandler, Arg\n",
            "from actionbus import ActionHandler, Arg\nfrom marshmallow import validate\n\n",
        )
        .replace(
            "from sqlalchemy.orm import DeclarativeBase\n\nfrom actionbus import Application, Bus, Outcome, PermissionDenied, outside, pure\n",
            "from actionbus import Application, Bus, Outcome, PermissionDenied, outside, pure\nfrom sqlalchemy.orm import DeclarativeBase\n\n",
        )
    )
