"""Asks an application's checkpoint outside of any action; called by `ActionRunner.require`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from actionbus.core.caller import Caller
from actionbus.core.determinism import new_action_id, new_seed, now
from actionbus.core.execution import Attempt, Execution, Identity
from actionbus.core.handler import Arguments
from actionbus.core.nested import NestedRunner
from actionbus.core.scrubbing import Scrubber
from actionbus.core.transaction import ActionTransaction

if TYPE_CHECKING:
    from actionbus.core.bus import Bus


def ask(bus: Bus, caller: Caller, permission: str, arguments: Arguments) -> None:
    """Build the checkpoint for `caller` as an action would have it, ask, and roll back. Raises PermissionDenied."""
    action = bus.registry.permission
    identity = Identity(new_action_id(), new_seed(), caller, caller.correlation_id or "", None, None)
    with bus.backend.connection() as connection:
        transaction = ActionTransaction(
            bus.backend, connection, action.isolation, bus.session_factory, bus.application.limits, identity.action_id
        )
        attempt = Attempt(bus, transaction, Scrubber(), now(), identity.seed, deque())
        execution = Execution(attempt, action, identity, NestedRunner())
        try:
            execution.ask(permission, arguments)
        finally:
            transaction.rollback()
