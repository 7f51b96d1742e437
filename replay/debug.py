"""Debugging: one action of history run again under a debugger, on the state that it saw."""

from __future__ import annotations

import os
import pdb
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from uuid import UUID

from actionbus.core.declare.handler import ActionHandler
from actionbus.replay.errors import ReplayError
from actionbus.replay.past.history import whole
from actionbus.replay.past.overlap import NOTHING_SEEN, SeenOthers
from actionbus.replay.replayer import Replayer
from actionbus.replay.sandbox.guard import opened
from actionbus.replay.sandbox.playback import PlayedWorld
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.verdicts.divergence import Difference
from actionbus.replay.verdicts.playable import why_not_replayable, why_rows_not_known

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
    """Runs one action as often as one likes on the recorded state before it, and leaves nothing of it."""

    def __init__(self, replayer: Replayer, action_id: UUID) -> None:
        self.replayer = replayer
        self.entry = whole(replayer.journal, action_id)
        self._refuse(why_not_replayable(self.entry))
        self.recorded = replayer.stand_before(self.entry)
        self._refuse(why_rows_not_known(self.recorded))
        self._seen = self._find_seen()

    def _refuse(self, why: str | None) -> None:
        if why is not None:
            raise ReplayError(f"{self.entry.outcome.action} cannot be run again: {why}")

    def _find_seen(self) -> SeenOthers:
        """What it saw of actions that overlapped, as far as that explains how it ended."""
        rerun, differences = self.replayer.tried(self.entry, self.recorded)
        self.replayer.sandbox.drop(rerun)
        return self.replayer.seen_by(self.entry, self.recorded, rerun) if differences else NOTHING_SEEN

    def run(self, hook: Hook | None = None) -> tuple[Rerun, list[Difference]]:
        """Run it on the state that it saw; what differs from history."""
        sandbox = self.replayer.sandbox
        world = PlayedWorld(self.entry, run=hook)
        taken_back = self._seen.taken_back()
        with sandbox.before(taken_back) if taken_back else nullcontext():
            rerun, differences = self.replayer.tried(self.entry, self.recorded, world, seen=self._seen)
            sandbox.drop(rerun)
        return rerun, differences
