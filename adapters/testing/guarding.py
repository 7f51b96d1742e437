"""Finds in tests what a replay would refuse: dependencies that reach out without being declared `outside`."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from actionbus.core import ActionCall, Middleware
from actionbus.replay.sandbox.guard import GuardedBlock


class Guarding(Middleware):
    """Around every action of a test."""

    engine: Engine

    def around_execution(self, call: ActionCall, session: Session, proceed: Callable[[], None]) -> None:
        """Let outside dependencies do as they like, and nothing else."""
        with GuardedBlock(self.engine, call.action, made_calls=True):
            proceed()
