"""Debugging: one action of history run again under a debugger, on the state that it saw."""

from __future__ import annotations

import os
import pdb
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

from actionbus.core.declare.handler import ActionHandler
from actionbus.replay.divergence import Difference
from actionbus.replay.errors import ReplayError
from actionbus.replay.guard import opened
from actionbus.replay.overlap import overlapping
from actionbus.replay.playback import PlayedWorld
from actionbus.replay.replayer import WINDOW, why_not_replayable
from actionbus.replay.sandbox import Rerun
from actionbus.replay.timeline import Timeline

Hook = Callable[[ActionHandler], Any]


def under_debugger(handler: ActionHandler) -> Any:
    """Run `execute()` with a stop at its first line, in pdb or in what PYTHONBREAKPOINT names."""
    hook = sys.breakpointhook
    if hook is sys.__breakpointhook__ and _names_pdb():
        debugger = pdb.Pdb()
        return debugger.runcall(handler.execute)
    with opened():
        hook()
    return handler.execute()


def _names_pdb() -> bool:
    return os.environ.get("PYTHONBREAKPOINT", "") in ("", "pdb.set_trace")


class Debugging:
    """Runs one action of a timeline as often as one likes, and leaves nothing of it."""

    def __init__(self, timeline: Timeline, action_id: UUID) -> None:
        self._timeline = timeline
        self.entry = timeline.entry(action_id)
        if (why := why_not_replayable(self.entry)) is not None:
            raise ReplayError(f"{self.entry.outcome.action} cannot be run again: {why}")

    def run(self, hook: Hook | None = None) -> tuple[Rerun, list[Difference]]:
        """Run it on the state that it saw; what differs from history."""
        entry, sandbox = self.entry, self._timeline.sandbox
        self._timeline.go(entry.position - 1)
        journal = self._timeline.journal
        recent = list(
            journal.read(max(0, entry.position - WINDOW), upto=entry.position - 1, kind="outcome", status="succeeded")
        )
        unseen = [record.position for record in overlapping(entry, recent)]
        with sandbox.held():
            if unseen and entry.outcome.status != "succeeded":
                sandbox.log.undo(unseen)
            rerun = sandbox.run(entry, world=PlayedWorld(entry, run=hook))
            sandbox.keep(rerun)
        return rerun, self._timeline.replayer.compare(entry, rerun)
