"""What public functions say of themselves: each error that they raise stands in their docstring, or their class's."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sources import PUBLIC

Function = Callable[..., Any]


def public_functions(module: str) -> Iterator[tuple[str, Function, str]]:
    """Name, function and docstring of what applications call; for a constructor, its class's docstring too."""
    door = importlib.import_module(module)
    for name in getattr(door, "__all__", ()):
        found = getattr(door, name)
        if inspect.isfunction(found):
            yield name, found, inspect.getdoc(found) or ""
        elif isinstance(found, type) and found.__module__.startswith("actionbus"):
            for of, each in vars(found).items():
                inner = getattr(each, "fget", None) or getattr(each, "__func__", each)
                if not inspect.isfunction(inner) or inner.__code__.co_filename == "<string>":  # a dataclass's
                    continue
                if not of.startswith("_") or of in ("__init__", "__call__"):
                    about = found.__doc__ if of == "__init__" else ""
                    yield f"{name}.{of}", inspect.unwrap(inner), f"{inspect.getdoc(inner)} {about}"


def raised_by(function: Function) -> set[str]:
    """The classes in its `raise` statements; not those of functions inside."""
    found: set[str] = set()
    waiting: list[ast.AST] = [*ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body]  # type: ignore[attr-defined]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = ast.unparse(error).rpartition(".")[2]
            found |= {name} if name[:1].isupper() else set()
        waiting += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("module", sorted(PUBLIC - {"actionbus.__main__", "actionbus.__init__"}))
def test_public_functions_name_the_errors_that_they_raise(module: str) -> None:
    silent = {
        name: wrong
        for name, f, told in public_functions(module)
        if (wrong := {r for r in raised_by(f) if r not in told})
    }
    assert silent == {}
    if module == "actionbus":
        assert len(list(public_functions(module))) > 100, "it looks at something"
