"""adapters/http knows no framework, so that all of them share it; its modules import each other in one direction."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.helpers import ROOT

FRAMEWORKS = {"flask", "werkzeug", "django", "starlette", "fastapi", "asgiref", "aiohttp", "waitress"}


def imported(path: Path) -> set[str]:
    """Everything that a file imports, inside of functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def modules(folder: str) -> dict[str, set[str]]:
    """Modules below a folder, and which modules each imports."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, folder
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): imported(path)
        for path in files
    }


def test_the_layer_imports_no_framework() -> None:
    for name, found in modules("adapters/http").items():
        assert not {each.split(".")[0] for each in found} & FRAMEWORKS, name
        assert not any(each.startswith("adapters.flask") for each in found), name


@pytest.mark.parametrize("folder", ["adapters/http", "adapters/flask"])
def test_no_module_imports_itself_by_way_of_others(folder: str) -> None:
    graph = modules(folder)
    graph = {name: {each for each in found if each in graph and each != name} for name, found in graph.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path, name])
        if name not in done:
            for each in graph[name]:
                visit(each, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())
