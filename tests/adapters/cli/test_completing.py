"""A shell that completes `actionbus run` is told names of actions and options from files: no module of the application runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from actionbus.adapters.cli.declared_names import action_files, declared_in
from actionbus.adapters.library.app import library
from actionbus.core.declare.registry import Registry
from tests.adapters.shop_app import app as shop

ACTION = """from actionbus import ActionHandler, Arg
{marker}
class {name}(ActionHandler):
    \"\"\"{told}\"\"\"
    arguments = {{"kit_id": Arg(int, required=True), "json": Arg(str)}}
    def execute(self): ...
"""
MARKER = "open('imported', 'a').write(__name__ + chr(10))"
DIRECT = "from actionbus import Application\napp = Application('a', actions=['made.actions', 'made.more'])\n"
ANNOTATED = "from actionbus import Application\napp: Application = Application('a', actions=('made.actions',))\n"
BY_FUNCTION = (
    "from actionbus import Application\n"
    "def make(**more):\n    return Application('a', **({'actions': ['made.actions']} | more))\n"
)
COMPUTED = "from actionbus import Application\napp = Application('a', actions=['made.' + 'actions'])\n"


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """Writes an application, every module of which says so if it is imported."""
    monkeypatch.chdir(tmp_path)

    def write(files: Mapping[str, str]) -> None:
        actions = {
            f"made/{folder}/{name}.py": ACTION.format(marker=MARKER, name=name.title().replace("_", ""), told=name)
            for folder, name in (
                ("actions", "add_asset"),
                ("actions", "name_kit"),
                ("actions", "_part"),
                ("more", "go"),
            )
        }
        packages = dict.fromkeys(("made/__init__.py", "made/actions/__init__.py", "made/more/__init__.py"), "")
        for file, text in (packages | actions | dict(files)).items():
            place = tmp_path / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text if file.startswith("made/actions/a") else f"{MARKER}\n{text}")

    return write


def offered(words: str) -> list[str]:
    """What bash is offered."""
    asked = {"_ACTIONBUS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    line = [sys.executable, "-m", "actionbus"]
    env = os.environ | asked | {"ACTIONBUS_APP": "made.app:app"}
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [each.partition(",")[2] for each in done.stdout.splitlines() if "," in each]


@pytest.mark.parametrize(
    ("files", "actions"),
    [
        ({"made/app.py": DIRECT}, ["add_asset", "go", "name_kit"]),
        ({"made/app.py": ANNOTATED}, ["add_asset", "name_kit"]),
        (
            {"made/app.py": "from .making import make\napp = make()\n", "made/making.py": BY_FUNCTION},
            ["add_asset", "name_kit"],
        ),
        (
            {"made/app.py": "from made.real import made as app\n", "made/real.py": DIRECT.replace("app =", "made =")},
            ["add_asset", "go", "name_kit"],
        ),
        ({"made/app.py": COMPUTED}, []),
        ({"made/app.py": "from made.app import app\n"}, []),
        ({"made/app.py": "this is not Python"}, []),
        ({}, []),
    ],
)
def test_nothing_of_the_application_is_imported(
    put: Callable[[Mapping[str, str]], None], tmp_path: Path, files: Mapping[str, str], actions: list[str]
) -> None:
    put(files)
    assert offered("actionbus run ") == actions
    if actions:
        assert offered("actionbus run add_asset --k") == ["--kit-id"]
        assert offered("actionbus run add_asset --arg") == ["--arg-json", "--arguments"]
    assert not (tmp_path / "imported").exists()


def test_the_marker_would_tell(put: Callable[[Mapping[str, str]], None], tmp_path: Path) -> None:
    put({"made/app.py": DIRECT})
    subprocess.run([sys.executable, "-c", "import made.app"], check=True)
    assert (tmp_path / "imported").read_text().split() == ["made", "made.app"]


@pytest.mark.parametrize(
    ("path", "registry"),
    [("tests.adapters.shop_app:app", Registry(shop)), ("actionbus.adapters.library.app:library", Registry(library))],
)
def test_what_is_read_is_what_there_is(path: str, registry: Registry) -> None:
    files = action_files(path)
    assert set(files) == {action.name for action in registry.everyday()}
    for name, file in files.items():
        handler = registry.get(name).handler
        told, arguments = declared_in(file)
        assert arguments == list(handler.arguments)
        assert told == (handler.__doc__ or "").partition("\n")[0]
