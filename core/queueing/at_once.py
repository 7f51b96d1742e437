"""Runs what an action has queued for right after its commit, in the process that committed it. Called by the runner.

So calls that were postponed are made where no worker runs, too. It is the claim that any worker makes: one of them may
be faster, and if this process dies, or a call does not finish, the next worker has it.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from actionbus.core.gateway.services import Services
from actionbus.core.queueing.claiming import run_queued

log = logging.getLogger("actionbus")


def run_at_once(services: Services, action_ids: Sequence[UUID], overrides: Mapping[str, Any]) -> None:
    """Run them in their order. What they raise is in their outcomes: the action that asked for them has succeeded."""
    for action_id in action_ids:
        try:
            run_queued(services, action_id, f"{socket.gethostname()}/{os.getpid()}", overrides)
        except Exception as error:
            log.info("action %s raised %s: %s", action_id, type(error).__name__, error)
