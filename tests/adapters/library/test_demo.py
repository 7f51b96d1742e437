"""`make run` is `actionbus demo`: it must work where nothing was there before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers import ROOT


def test_the_demo_makes_all_that_it_needs(tmp_path: Path) -> None:
    """In an empty folder, with no setting but where documents are kept; twice, since a second run goes on."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ACTIONBUS_")}
    env |= {"PYTHONPATH": str(ROOT), "ACTIONBUS_ELASTICSEARCH_URL": "embedded", "COLUMNS": "120"}
    command = [sys.executable, "-m", "actionbus", "demo", "--limit", "60"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    assert (tmp_path / "var" / "library.db").exists()
    assert "succeeded" in done.stdout
    for shown in ("history blame kits", "history bisect kits", "history state --table kits", "revert", "history rows"):
        assert f"$ actionbus {shown}" in done.stdout
    assert "rename_kit is reverted: 1 of kits" in done.stdout
    assert "The first emoji → Emoji 0.6" in done.stdout
    assert "Traceback" not in done.stderr
