"""`actionbus replay …` runs in a process of its own that the operating system confines; its parent cleans up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.replay.sandbox.confinement import why_not
from tests import processes
from tests.helpers import ROOT, environment
from tests.replay.conftest import fill
from tests.shop.app import make_application

pytestmark = pytest.mark.skipif(why_not() is not None, reason="nothing confines a process here")
_LOOK = """
import json, sys
from tests.shop.actions.deposit import Deposit
was = Deposit.execute
def execute(self):
    with open("/proc/self/status") as file:
        told = dict(line.split(":", 1) for line in file if ":" in line)
    print("seccomp", told["Seccomp"].strip(), file=sys.stderr)
    try:
        __import__("os").open("/proc/self/comm", 1)
    except PermissionError as error:
        print("refused", file=sys.stderr)
    return was(self)
Deposit.execute = execute
import os
# Past the guard, as C code is: what is left is the kernel.
import actionbus.replay.sandbox.guard as guard
guard._FILES.clear()
from actionbus.adapters.cli.process import program
program()
"""


def test_it_is_confined_and_nothing_is_left(url: URL, tmp_path: Path) -> None:
    with Bus(make_application(), url) as bus:
        bus.create()
        fill(bus)
    env = environment(url) | {"TMPDIR": str(tmp_path)}
    if url.get_backend_name() == "postgresql":
        env["ACTIONBUS_SANDBOX_URL"] = url.set(database="postgres").render_as_string(hide_password=False)
    line = [sys.executable, "-c", _LOOK, "replay", "verify"]
    done = processes.run(line, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 divergent" in done.stderr
    assert "seccomp 2" in done.stderr
    assert "refused" in done.stderr
    assert not [each.name for each in tmp_path.iterdir() if each.name.startswith("actionbus-")]
    if url.get_backend_name() == "postgresql":
        engine = create_engine(url)
        with engine.connect() as connection:
            left = connection.exec_driver_sql("SELECT datname FROM pg_database WHERE datname LIKE 'actionbus_replay%%'")
            assert left.all() == []
        engine.dispose()
