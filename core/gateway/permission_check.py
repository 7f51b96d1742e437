"""Asks an application's checkpoint outside of any action; called by `ActionRunner.require`."""

from __future__ import annotations

from actionbus.core.declare.handler import Arguments
from actionbus.core.gateway.execution import Attempt, Execution
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.nested import NestedRunner
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.transaction import ActionTransaction
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.values.caller import Caller
from actionbus.core.values.determinism import new_action_id, new_seed, now


def ask(services: Services, caller: Caller, permission: str, arguments: Arguments) -> None:
    """Build the checkpoint for `caller` as an action would have it, ask, and roll back. Raises PermissionDenied."""
    action = services.registry.permission
    identity = Identity(new_action_id(), new_seed(), caller, caller.correlation_id or "", None, None)
    with services.backend.connection() as connection:
        transaction = ActionTransaction(
            services.backend,
            connection,
            action.isolation,
            services.session_factory,
            identity.action_id,
        )
        attempt = Attempt(services, transaction, Scrubber(), now(), identity.seed, NestedRunner)
        execution = Execution(attempt, action, identity)
        try:
            execution.ask(permission, arguments)
        finally:
            transaction.rollback()
