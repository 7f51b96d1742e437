"""Replay: history re-run in a sandbox, so that "what happened?" has an answer; see docs/replay.md."""

from actionbus.replay.changes import RowChange
from actionbus.replay.divergence import Difference
from actionbus.replay.errors import CannotPlayBack, LeavesSandbox, NeedsUpcast, NotRecorded, ReplayError
from actionbus.replay.fixture import Fixture
from actionbus.replay.history import Entry
from actionbus.replay.replayer import Replayer, Step
from actionbus.replay.sandbox import Sandbox
from actionbus.replay.snapshots import Snapshot
from actionbus.replay.timeline import Timeline

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
    "Snapshot",
    "Step",
    "Timeline",
]

if __name__ != "actionbus.replay":
    raise ImportError(f"{__name__!r} is part of actionbus: import it as actionbus.replay")
