"""Projectors at work: in a thread, and in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from actionbus.projections import Projector
from tests import processes
from tests.projections.conftest import World
from tests.projections.waiting import PATIENCE_S

PROJECTOR = """
import sys, threading
from tests.projections.kills import project
project(*sys.argv[1:])
"""


@contextmanager
def running(world: World, **options: int) -> Iterator[threading.Event]:
    stop = threading.Event()
    projector = Projector(world.bus, world.store, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=projector.run, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def start_projector(world: World, *more: str) -> subprocess.Popen[bytes]:
    """A projector in a process of its own."""
    line = [sys.executable, "-c", PROJECTOR, world.url.render_as_string(hide_password=False), world.store_at, *more]
    return processes.Popen(line, env=os.environ | {"PYTHONWARNINGS": "error"})
