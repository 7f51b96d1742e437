"""The wheel, built from a copy of the sources, for tests that install it as a stranger would."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

SOURCES = ("actionbus", "core", "projections", "replay", "adapters", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder it lies in. Of all processes that run tests, the first that asks for it builds it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "wheel"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("wheels/*.whl")):
            build_wheel(folder)
    return folder / "wheels"


def build_wheel(folder: Path) -> None:
    """Build it in a folder. The checkout is left as it is."""
    sources, wheels = folder / "sources", folder / "wheels"
    sources.mkdir(exist_ok=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, sources)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(sources)]
    subprocess.run(pip, check=True)
