"""No property is judged by the clock: Hypothesis fails an example that takes 200 ms, unless it is told not to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import ROOT


def judged_by_the_clock(code: str) -> Iterator[str]:
    """Functions that Hypothesis calls without having been told `deadline=None`, by a decorator or what it is called."""
    tree = ast.parse(code)
    called = {
        node.targets[0].id: ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            decorators = [called.get(told := ast.unparse(each), told) for each in node.decorator_list]
            if any(each.startswith("given(") for each in decorators) and "deadline=None" not in "".join(decorators):
                yield node.name


def test_no_property_is_judged_by_the_clock() -> None:
    files: list[Path] = sorted((ROOT / "tests").rglob("test_*.py"))
    assert [f"{file.name}: {name}" for file in files for name in judged_by_the_clock(file.read_text())] == []


def test_one_that_is_would_be_found() -> None:
    asked = "@settings(max_examples=3)\n@given(st.text())\ndef test_it(text: str) -> None: ...\n"
    assert list(judged_by_the_clock(asked)) == ["test_it"]
    assert list(judged_by_the_clock(asked.replace("=3", "=3, deadline=None"))) == []
