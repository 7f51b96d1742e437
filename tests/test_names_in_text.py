"""A schema's name may hold a colon, which `sqlalchemy.text` takes for a parameter's: names go through `in_text`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMES = {"prefix", "journal_name"}


def given_as_they_are(source: str) -> Iterator[int]:
    """The lines on which a text of SQL has such a name without that."""
    for call in ast.walk(ast.parse(source)):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "text"):
            continue
        for each in (part for argument in call.args for part in ast.walk(argument)):
            named = each.value if isinstance(each, ast.FormattedValue) else None
            if isinstance(named, ast.Attribute) and named.attr.lstrip("_") in NAMES:
                yield named.lineno


def test_names_in_a_text_of_sql_are_escaped() -> None:
    assert [*given_as_they_are('text(f"SELECT 1 FROM {backend.journal_name}")')] == [1]
    found = {
        f"{file.relative_to(ROOT)}:{line}"
        for folder in ("core", "adapters", "projections", "replay")
        for file in (ROOT / folder).rglob("*.py")
        for line in given_as_they_are(file.read_text())
    }
    assert found == set()
