"""Projectors at work: in a thread, and in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from actionbus import Bus
from actionbus.projections import Projector
from actionbus.projections.store import Store
from tests import processes
from tests.projections.conftest import World
from tests.projections.waiting import PATIENCE_S

PROJECTOR = """
import sys, threading
from tests.projections.kills import project
project(*sys.argv[1:])
"""


@contextmanager
def projecting(bus: Bus, store: Store, **options: int) -> Iterator[threading.Event]:
    """A projector in a thread of this process."""
    stop = threading.Event()
    projector = Projector(bus, store, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=projector.run, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def running(world: World, **options: int) -> AbstractContextManager[threading.Event]:
    return projecting(world.bus, world.store, **options)


def start_projector(world: World, *more: str) -> subprocess.Popen[bytes]:
    """A projector in a process of its own."""
    line = [sys.executable, "-c", PROJECTOR, world.url.render_as_string(hide_password=False), world.store_at, *more]
    return processes.Popen(line, env=os.environ | {"PYTHONWARNINGS": "error"})
