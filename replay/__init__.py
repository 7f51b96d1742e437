"""Replay: history re-run in a sandbox, to see what would be; see docs/replay.md. What was is told by `bus.history`."""

from actionbus.replay.errors import CannotPlayBack, LeavesSandbox, NeedsUpcast, NotRecorded, ReplayError
from actionbus.replay.fixture import Fixture
from actionbus.replay.past.history import Entry
from actionbus.replay.past.nets import RowChange
from actionbus.replay.replayer import Replayer
from actionbus.replay.sandbox.confinement import confine
from actionbus.replay.sandbox.sandbox import Sandbox
from actionbus.replay.verdicts.divergence import Difference
from actionbus.replay.verdicts.step import Step

__all__ = [
    "CannotPlayBack",
    "Difference",
    "Entry",
    "Fixture",
    "LeavesSandbox",
    "NeedsUpcast",
    "NotRecorded",
    "ReplayError",
    "Replayer",
    "RowChange",
    "Sandbox",
    "Step",
    "confine",
]

if __name__ != "actionbus.replay":
    raise ImportError(f"{__name__!r} is part of actionbus: import it as actionbus.replay")
