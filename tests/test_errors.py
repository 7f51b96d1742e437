"""Errors: public ones have one base and one place; what rooms of core raise for each other is nobody else's."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import actionbus
from tests.helpers import ROOT
from tests.sources import PUBLIC, files

PLACES = {
    "actionbus": "core/errors.py",
    "actionbus.projections": "projections/errors.py",
    "actionbus.replay": "replay/errors.py",
}
INTERNAL = {"AttemptUnfinished", "CommitConflict", "ForAnotherWorker"}
TELLS_A_BACKEND = ROOT / "adapters" / "testing" / "contracts.py"
"""Has the contract of a Backend, which raises CommitConflict: an author of one is inside of core."""


def errors_in(module: str) -> dict[str, type[BaseException]]:
    found = vars(importlib.import_module(module)) | {
        name: getattr(importlib.import_module(module), name)
        for name in getattr(importlib.import_module(module), "__all__", ())
    }
    return {n: each for n, each in found.items() if isinstance(each, type) and issubclass(each, BaseException)}


def classes_of(file: str) -> set[str]:
    return {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.ClassDef)}


@pytest.mark.parametrize("module", sorted(PUBLIC - {"actionbus.__main__", "actionbus.__init__"}))
def test_public_errors_have_one_base_and_say_where_they_are_imported_from(module: str) -> None:
    for name, error in errors_in(module).items():
        assert issubclass(error, actionbus.ActionBusError), name
        assert getattr(importlib.import_module(error.__module__), name) is error
        assert error.__module__ in PLACES, "a journal has it by that name"


@pytest.mark.parametrize(("module", "file"), PLACES.items())
def test_public_errors_are_written_in_one_place_and_it_has_no_others(module: str, file: str) -> None:
    here = classes_of(file) & errors_in(f"actionbus.{file.removesuffix('.py').replace('/', '.')}").keys()
    assert here | ({"ActionBusError"} if module == "actionbus" else set()) == errors_in(module).keys()


def test_internal_errors_are_of_core_alone() -> None:
    assert classes_of("core/internal_errors.py") == INTERNAL
    for folder in ("adapters", "projections", "replay"):
        for path in files(folder):
            assert path == TELLS_A_BACKEND or not names_imported(path) & INTERNAL, path


def names_imported(path: Path) -> set[str]:
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in found for alias in node.names}
