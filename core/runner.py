"""ActionRunner, the gateway: its `execute` is the one way to change state. Made by `Bus.runner`, one per caller."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from core.call import Call
from core.caller import Caller
from core.errors import Misuse
from core.execution import inside_a_handler
from core.record import Outcome
from core.registry import Action

if TYPE_CHECKING:
    from core.bus import Bus


class ActionRunner:
    """The gateway bound to one caller. Safe to use from several threads."""

    def __init__(self, bus: Bus, caller: Caller) -> None:
        self._bus = bus
        self._caller = caller

    @property
    def actor(self) -> str | None:
        """On whose behalf actions run; None for nobody."""
        return self._caller.actor

    def execute(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Outcome:
        """Run an action and give its outcome, which is then durable.

        Raises UnknownAction, InvalidArguments, PermissionDenied, or what the handler raised: in each case nothing was
        changed and the journal says why. With an `idempotency_key` used before: the first outcome again, or
        IdempotencyConflict, ActionInProgress, ActionInterrupted, ActionFailed. JournalUnavailable when the journal
        could not be written, OutcomeUnknown when the database was lost while committing.
        """
        if inside_a_handler.get():
            raise Misuse(
                "a handler runs other actions with self.runner (requires = ['runner']), inside its transaction"
            )
        call = Call(self._bus, self._caller, name, arguments, idempotency_key)
        with ExitStack() as held:
            connection = call.connect(held)
            try:
                if not call.submit(connection):
                    return call.repeat(connection)
                action = self._get_action_handler(name)
                return call.run(connection, action)
            except BaseException as error:
                return call.settle(connection, error)

    def _get_action_handler(self, name: str) -> Action:
        return self._bus.registry.get(name)
