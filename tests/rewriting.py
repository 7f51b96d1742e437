"""Modules whose assertions pytest rewrites, compiled before xdist's workers begin; `tests/conftest.py` calls it.

Each worker imports all tests, at the same pace as the others: in a fresh checkout each would rewrite every one of them,
which takes longer than all else that it does before its first test.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

OURS = ("actionbus", "core", "projections", "replay", "adapters")


def compile_all(root: Path, *, ours: bool) -> None:
    """Compile the tests; with `ours` all of the package too, of which pytest has a plugin. Nothing, if it was done."""
    [hook] = [each for each in sys.meta_path if type(each).__name__ == "AssertionRewritingHook"]
    folders = {"tests": "tests"} | ({each: f"actionbus.{each}" for each in OURS} | {OURS[0]: OURS[0]} if ours else {})
    found = [each for folder, package in folders.items() for each in _modules(root / folder, package)]
    count = os.cpu_count() or 1
    context = multiprocessing.get_context("fork")  # a child has the hook, and pytest's settings in it
    children = [context.Process(target=_compile, args=(hook, found[at::count])) for at in range(count)]
    for each in children:
        each.start()
    for each in children:
        each.join()


def _modules(folder: Path, package: str) -> Iterator[tuple[str, Path]]:
    """Their names, and the folders they lie in."""
    for file in sorted(folder.rglob("*.py")):
        name = ".".join((package, *file.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
        yield name, file.parent.parent if file.name == "__init__.py" else file.parent


def _compile(hook: Any, modules: list[tuple[str, Path]]) -> None:
    for name, folder in modules:
        if (spec := hook.find_spec(name, [str(folder)])) is not None:
            # The hook compiles what it is to run; without builtins, that ends where it would import something.
            with suppress(Exception):  # a worker tells what is wrong with it
                hook.exec_module(SimpleNamespace(__name__=name, __spec__=spec, __builtins__={}))
