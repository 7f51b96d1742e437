"""The names of an application's actions and arguments, read from the text of its files: nothing of it is imported.

An action's module is named like the action, so its folder is the catalogue; which folders they are stands in the
application's declaration, `actions=[…]`, in its module or one from which that has it. What is put together by code is
not found: then a shell completes less. Used by `run_completion`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Final

from actionbus.adapters.settings import DEFAULT_APPLICATION

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}", re.ASCII)
_MOST: Final = 20
"""Modules that are looked into for a declaration."""


def action_files(app_path: str) -> Mapping[str, Path]:
    """The files of the actions of the application at `module:attribute`, by action; none where that cannot be told."""
    module, _, attribute = app_path.partition(":")
    path = sys.path if app_path == DEFAULT_APPLICATION else [str(Path.cwd()), *sys.path]
    found: dict[str, Path] = {}
    for package in _packages(module, attribute, path, set()):
        folder = _place(package, path)
        files = sorted(folder.glob("*.py")) if folder is not None and folder.is_dir() else []
        found |= {file.stem: file for file in files if _NAME.fullmatch(file.stem)}
    return found


def declared_in(file: Path) -> tuple[str, list[str]]:
    """What an action's module says of it: its first sentence, and the names of its arguments."""
    told, names = "", list[str]()
    for node in _body(file):
        if isinstance(node, ast.ClassDef):
            told = told or (ast.get_docstring(node) or "").partition("\n")[0]
            names += [
                key.value
                for value in _assigned(node.body, "arguments")
                if isinstance(value, ast.Dict)
                for key in value.keys
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]
    return told, names


def _packages(module: str, attribute: str, path: Sequence[str], seen: set[str]) -> list[str]:
    """The packages of actions that a declaration names: in this module, or in one from which it has what it names."""
    file = _place(module, path)
    if file is None or module in seen or len(seen) >= _MOST:
        return []
    seen.add(module)
    if file.is_dir():
        file = file / "__init__.py"
    body = _body(file)
    if found := [each for node in body for each in _actions_in(node)]:
        return found
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    homes = {as_name: (home, name) for node in body for as_name, home, name in _imported_by(node, package)}
    if attribute in homes:
        home, name = homes[attribute]
        return _packages(home, name, path, seen)
    used = (each.id for value in _assigned(body, attribute) for each in ast.walk(value) if isinstance(each, ast.Name))
    return [found for name in used if name in homes for found in _packages(*homes[name], path, seen)]


def _actions_in(node: ast.AST) -> Iterator[str]:
    """The texts given by the name `actions`, as a keyword or in a dict."""
    for each in ast.walk(node):
        if isinstance(each, ast.keyword) and each.arg == "actions":
            yield from _texts(each.value)
        elif isinstance(each, ast.Dict):
            for key, value in zip(each.keys, each.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "actions":
                    yield from _texts(value)


def _texts(node: ast.expr) -> Iterator[str]:
    for each in node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node]:
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def _imported_by(node: ast.stmt, package: str) -> Iterator[tuple[str, str, str]]:
    """Of `from HOME import NAME as AS_NAME`: the three."""
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        home = ".".join([*above, *([node.module] if node.module else [])])
        for each in node.names:
            yield each.asname or each.name, home, each.name


def _assigned(body: Sequence[ast.stmt], name: str) -> Iterator[ast.expr]:
    """What is assigned to a name."""
    for node in body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        if node.value is not None and any(isinstance(each, ast.Name) and each.id == name for each in targets):
            yield node.value


def _body(file: Path) -> list[ast.stmt]:
    try:
        return ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _place(module: str, path: Sequence[str]) -> Path | None:
    """The file or folder of a module, as finders tell it: `importlib.util` would import the package it lies in."""
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    spec: ModuleSpec | None = None
    locations: Sequence[str] = path
    for number in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:number]), locations)
        if spec is None:
            return None
        locations = list(spec.submodule_search_locations or ())
    assert spec is not None
    if locations:
        return Path(locations[0])
    return Path(spec.origin) if spec.origin else None


def _spec(name: str, locations: Sequence[str]) -> ModuleSpec | None:
    for finder in sys.meta_path:
        with suppress(Exception):  # a finder of somebody's own
            if (found := finder.find_spec(name, locations)) is not None:
                return found
    return None
