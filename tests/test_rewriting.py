"""What xdist's workers would each compile is compiled before they begin, and nothing of it is run."""

from __future__ import annotations

from pathlib import Path

from tests.rewriting import compile_all

MODULE = """
from pathlib import Path

Path(__file__).with_suffix(".was-run").touch()


def test_it() -> None:
    assert True
"""


def test_tests_are_compiled_and_not_run(tmp_path: Path) -> None:
    for name in ("tests/__init__.py", "tests/helpers.py", "tests/test_it.py", "tests/deep/conftest.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(MODULE)
    compile_all(tmp_path, ours=False)
    compiled = {path.name.partition(".")[0] for path in tmp_path.rglob("*pytest*.pyc")}
    assert compiled == {"test_it", "conftest"}, "helpers have no assertions that are rewritten"
    assert list(tmp_path.rglob("*.was-run")) == []
