"""Which statements of ours the tests run: a pytest plugin, given with `-p tests.line_coverage` by `make test`.

Each statement is compiled with a mark before it: one byte set in a file that all processes of the run have mapped. So what
workers and commands run counts as well, even those that are killed, and nothing has to be gathered. Nobody is traced: a
tracer costs half the time again, where the marks cost less than can be told (docs/decisions/0032-coverage.md).
"""

from __future__ import annotations

import ast
import builtins
import marshal
import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "projections", "replay", "adapters")
NOT_MEASURED = ("adapters/migrations/versions", "adapters/migrations/env.py")
"""Alembic loads these itself, by their paths."""
TOLD = "TESTS_LINE_COVERAGE"
"""The variable that tells processes in which folder the marks are."""
MARKS = "__marks__"
"""The mapped file, as a builtin: wherever a code object is run, it finds it."""
SHOWN = 10
"""So many files are named, those with most statements that no test runs."""


class Marked:
    """The statements of one file, and its code with a mark before each. A mark lies at `base` and the statement's line."""

    def __init__(self, file: Path, base: int) -> None:
        self.lines: set[int] = set()
        self._base = base
        tree = ast.parse(file.read_bytes())
        self._visit(tree)
        self.code: CodeType = compile(tree, str(file), "exec", dont_inherit=True)

    def _visit(self, node: ast.AST) -> None:
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            within = getattr(node, name, None)
            if isinstance(within, list):
                if within and isinstance(within[0], ast.stmt) and not _never_runs(node, name):
                    within[:] = self._with_marks(within)
                for each in within:
                    self._visit(each)

    def _with_marks(self, statements: list[ast.stmt]) -> Iterator[ast.stmt]:
        for each in statements:
            if not _is_no_statement(each):
                yield self._mark(each)
            yield each

    def _mark(self, statement: ast.stmt) -> ast.stmt:
        line = min([statement.lineno, *(each.lineno for each in getattr(statement, "decorator_list", ()))])
        self.lines.add(line)
        mark = ast.parse(f"{MARKS}[{self._base + line}] = 1").body[0]
        for each in ast.walk(mark):
            if "lineno" in each._attributes:
                each.lineno = each.end_lineno = line  # type: ignore[attr-defined]
                each.col_offset = each.end_col_offset = statement.col_offset  # type: ignore[attr-defined]
        return mark


def _is_no_statement(node: ast.stmt) -> bool:
    """A docstring or `...`; what has to stand first; a declaration that nothing is compiled to."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    return isinstance(node, (ast.Global, ast.Nonlocal)) or (
        isinstance(node, ast.ImportFrom) and node.module == "__future__"
    )


def _never_runs(node: ast.AST, part: str) -> bool:
    return part == "body" and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


class Marks(MetaPathFinder):
    """The folder of one run: code with marks, and what was marked. Finds our modules for whoever imports them."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, tuple[int, tuple[int, ...], int, int]] = marshal.loads((folder / "index").read_bytes())
        self._codes = _mapped(folder / "codes", mmap.ACCESS_READ)
        self._marks = _mapped(folder / "marks", mmap.ACCESS_WRITE)

    def begin(self) -> None:
        """Run what is imported from now on with its marks."""
        setattr(builtins, MARKS, self._marks)
        sys.meta_path.insert(0, self)

    def code(self, file: str) -> Any:
        """The module's code, from memory: a sandbox may not read files."""
        _, _, at, end = self.files[file]
        return marshal.loads(self._codes[at:end])

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As others find it, but with our loader. pytest's would look for assertions of tests in it."""
        if not name.startswith("actionbus."):
            return None
        for each in sys.meta_path:
            if each is self or type(each).__name__ == "AssertionRewritingHook":
                continue
            if (spec := each.find_spec(name, path, target)) is not None:
                if spec.origin in self.files:
                    spec.loader = _Loader(name, spec.origin, self)
                return spec
        return None

    def covered(self) -> dict[str, tuple[list[int], int]]:
        """Of each file, lines of the statements that nobody ran, and how many statements there are."""
        return {
            file: ([line for line in lines if not self._marks[base + line]], len(lines))
            for file, (base, lines, _, _) in self.files.items()
        }


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, marks: Marks) -> None:
        super().__init__(name, path)
        self._marks = marks

    def get_code(self, fullname: str) -> Any:
        """That with the marks; nothing of it is kept where Python keeps what it compiles."""
        return self._marks.code(self.path)


def _mapped(file: Path, access: int) -> mmap.mmap:
    with file.open("r+b") as opened:
        return mmap.mmap(opened.fileno(), 0, access=access)


def prepare(folder: Path, files: Iterable[Path]) -> None:
    """Compile the files with marks."""
    index: dict[str, tuple[int, tuple[int, ...], int, int]] = {}
    codes, base = bytearray(), 0
    for file in files:
        marked = Marked(file, base)
        at = len(codes)
        codes += marshal.dumps(marked.code)
        index[str(file)] = (base, tuple(sorted(marked.lines)), at, len(codes))
        base += max(marked.lines, default=0) + 1
    (folder / "codes").write_bytes(codes)
    (folder / "marks").write_bytes(bytes(base))
    (folder / "index").write_bytes(marshal.dumps(index))


def measured(root: Path) -> list[Path]:
    """The files that are counted."""
    return [
        file
        for folder in FOLDERS
        for file in sorted((root / folder).rglob("*.py"))
        if not str(file.relative_to(root)).startswith(NOT_MEASURED)
    ]


def summary(covered: dict[str, tuple[list[int], int]], root: Path) -> tuple[float, str, str]:
    """How much of a hundred was run; a few lines that say so; all lines that were not, file by file."""
    total = sum(count for _, count in covered.values())
    missing = sum(len(lines) for lines, _ in covered.values())
    percent = 100 * (total - missing) / max(total, 1)
    worst = sorted(covered.items(), key=lambda each: -len(each[1][0]))[:SHOWN]
    names = {file: str(Path(file).relative_to(root)) for file in covered}
    told = [f"{percent:.1f} % of {total:,} statements were run; most are missing in"]
    told += [f"  {len(lines):4} of {count:4}  {names[file]}" for file, (lines, count) in worst if lines]
    whole = [f"{names[file]}: {', '.join(map(str, lines))}" for file, (lines, _) in covered.items() if lines]
    return percent, "\n".join(told), "\n".join(whole)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The floor. Called when the plugin is registered, before anything of ours is imported."""
    begin()
    parser.addoption("--floor", type=float, default=0.0, help="fail if less of a hundred statements is run")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run that is green but for the floor fails as well."""
    if _OURS and exitstatus == 0 and summary(_OURS[0].covered(), ROOT)[0] < session.config.getoption("--floor"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the summary, write the whole to `var/coverage.txt`."""
    if not _OURS:
        return
    percent, told, whole = summary(_OURS[0].covered(), ROOT)
    terminalreporter.section("coverage")
    terminalreporter.write_line(told)
    (config.rootpath / "var").mkdir(exist_ok=True)
    (config.rootpath / "var" / "coverage.txt").write_text(whole + "\n")
    terminalreporter.write_line("All lines that were not run: var/coverage.txt")
    if percent < (floor := config.getoption("--floor")):
        terminalreporter.write_line(f"Fewer than {floor:g} % are: test what was added, or take out what nobody needs.")


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    if _OURS:
        shutil.rmtree(os.environ.pop(TOLD), ignore_errors=True)


_OURS: list[Marks] = []
"""In the process that began the run."""


def begin() -> None:
    """Begin a run, or take part in the one that the environment tells of."""
    if hasattr(builtins, MARKS):
        return
    if not (folder := os.environ.get(TOLD)):
        folder = os.environ[TOLD] = tempfile.mkdtemp(prefix="coverage-")
        prepare(Path(folder), measured(ROOT))
        _OURS.append(Marks(Path(folder)))
    (_OURS[0] if _OURS else Marks(Path(folder))).begin()
