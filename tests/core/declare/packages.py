"""Packages of actions that a test writes, for the tests of declarations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import write_package

GOOD = """
from actionbus import ActionHandler, Arg
class DoIt(ActionHandler):
    {body}
    def execute(self): return None
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a package of actions from sources by file name; its dotted name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def write(**sources: str) -> str:
        name = f"pkg_{abs(hash(tmp_path))}_{len(made)}"
        made.append(name)
        write_package(tmp_path, name, **sources)
        return name

    yield write  # type: ignore[misc]
    for name in [each for each in sys.modules if each.startswith("pkg_")]:
        del sys.modules[name]
