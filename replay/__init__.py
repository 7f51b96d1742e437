"""Replay: history re-run in a sandbox, so that "what happened?" has an answer. `from replay import Replayer`."""

from replay.changes import RowChange
from replay.divergence import Difference
from replay.errors import CannotPlayBack, LeavesSandbox, NeedsUpcast, NotRecorded, ReplayError
from replay.history import Entry
from replay.replayer import Replayer, Step
from replay.sandbox import Sandbox
from replay.snapshots import Snapshot

__all__ = [
    "CannotPlayBack",
    "Difference",
    "Entry",
    "LeavesSandbox",
    "NeedsUpcast",
    "NotRecorded",
    "ReplayError",
    "Replayer",
    "RowChange",
    "Sandbox",
    "Snapshot",
    "Step",
]
