"""What is counted as run was run, and a run below the floor fails (`tests/line_coverage.py`)."""

from __future__ import annotations

import ast
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.line_coverage import MARKS, TOLD, Marked, Marks, prepare, summary

SOURCE = '''"""A module."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Called(Protocol):
    """A protocol."""

    def call(self) -> None: ...


@cache
def doubled(value: int) -> int:
    """A docstring."""
    global seen
    seen = value
    return (
        value
        * 2
    )


def refused(value: object) -> str:
    try:
        if value is None:
            raise ValueError
        for each in range(3):
            if each == 1:
                continue
            elif each == 2:
                break
        else:
            never = 1
        with open("/dev/null"):
            pass
        match value:
            case int():
                return "int"
            case _:
                1 / 0
                after = 2
    except ValueError:
        return "none"
    except ZeroDivisionError:
        pass
    finally:
        done = True
    while True:
        return "other"


def endless() -> Iterator[int]:
    yield doubled(1)
    yield doubled(2)


async def later() -> None:
    pass


class Small:
    x = 1

    def unused(self) -> int:
        return self.x
'''
CALLS = ["refused(1)", "refused(None)", "refused('x')", "next(endless())", "Small()"]


def lines(covered: dict[str, tuple[list[int], int]], marked: Marked) -> set[int]:
    ((missing, count),) = covered.values()
    assert count == len(marked.lines)
    return marked.lines - set(missing)


@pytest.mark.parametrize("calls", [CALLS[:at] for at in range(len(CALLS) + 1)], ids=len)
def test_what_is_marked_is_what_a_tracer_sees(tmp_path: Path, calls: list[str]) -> None:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    prepare(tmp_path, [file])
    marks = Marks(tmp_path)
    run = compile("\n".join(calls), "calls", "exec")

    seen: set[int] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and frame.f_code.co_filename == str(file):
            seen.add(frame.f_lineno)
        return trace

    names: dict[str, Any] = {"__name__": "module"}
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        exec(compile(SOURCE, file, "exec"), names)
        exec(run, names)
    finally:
        sys.settrace(before)

    names = {"__name__": "module", MARKS: marks._marks}  # not the ones of the whole run, which other threads set
    exec(marks.code(str(file)), names)
    exec(run, names)
    assert lines(marks.covered(), Marked(file, 0)) == seen & Marked(file, 0).lines


def test_every_statement_that_can_run_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    text = SOURCE.splitlines()
    left_out = ('"""', "from __future__", "    from coll", "    global", "    def call", "@cache", "def doubled")
    statements = {each.lineno for each in ast.walk(ast.parse(SOURCE)) if isinstance(each, ast.stmt)}
    expected = {each for each in statements if not text[each - 1].lstrip().startswith('"""')}
    expected = {each for each in expected if not text[each - 1].startswith(left_out)}
    protocol, decorator = text.index("    def call(self) -> None: ...") + 1, text.index("@cache") + 1
    assert Marked(file, 0).lines == expected | {protocol, decorator}


def test_what_a_killed_process_ran_counts(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("import os\nos.kill(os.getpid(), 9)\nnever = 1\n")
    prepare(tmp_path, [file])
    marks = Marks(tmp_path)
    if not (child := os.fork()):
        exec(marks.code(str(file)), {MARKS: marks._marks})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert marks.covered() == {str(file): ([3], 3)}
    percent, told, whole = summary(marks.covered(), tmp_path)
    assert (int(percent), whole) == (66, "module.py: 3")
    assert told.splitlines() == ["66.7 % of 3 statements were run; most are missing in", "     1 of    3  module.py"]


CHILDREN = """
import subprocess, sys
from tests import processes
from actionbus import Bus

def test_children():
    command = [sys.executable, "-c", "import actionbus.adapters.cli.printing, os; os.kill(os.getpid(), 9)"]
    assert processes.run(command).returncode == -9
"""


@pytest.mark.early
def test_a_run_below_the_floor_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers count, and commands that they start."""
    monkeypatch.delenv(TOLD, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makepyfile(CHILDREN)
    done = pytester.runpytest_subprocess(
        "-p", "tests.line_coverage", "--floor", "99", "-n", "1", "-p", "no:cacheprovider"
    )
    assert done.ret == 1, "though its tests pass"
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["Fewer than 99 % are: *"])
    missing = (pytester.path / "var" / "coverage.txt").read_text()
    assert "core/bus.py:" in missing, "made by nobody"
    assert "core/bus.py: 1," not in missing, "imported by a worker"
    assert "cli/printing.py:" in missing
    assert not any(each.startswith("adapters/cli/printing.py: 3,") for each in missing.splitlines())
