"""ActionRunner, the gateway: its `execute` is the one way to change state. Made by `Bus.runner`, one per caller."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import Any

from actionbus.core.declare.handler import Arguments
from actionbus.core.declare.registry import Action
from actionbus.core.errors import Misuse
from actionbus.core.gateway.call import Call
from actionbus.core.gateway.inside import running
from actionbus.core.gateway.permission_check import ask
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.ticket import Ticket, due_at
from actionbus.core.queueing.queued import QueueingCall
from actionbus.core.values.caller import Caller
from actionbus.core.values.determinism import now
from actionbus.core.values.record import Outcome


class ActionRunner:
    """The gateway bound to one caller. Safe to use from several threads."""

    def __init__(self, services: Services, caller: Caller) -> None:
        self._services = services
        self._caller = caller
        self._closed = False

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
        self._refuse_misuse()
        call = Call.of(self._services, self._caller, name, arguments, idempotency_key)
        return self._services.middleware.around_call(call.told, partial(self._execute, call, name))

    def _execute(self, call: Call, name: str) -> Outcome:
        with ExitStack() as held:
            connection = call.connect(held)
            try:
                if not call.submit(connection):
                    return call.repeat(connection)
                action = self._get_action_handler(name)
                return call.run(connection, action)
            except BaseException as error:
                return call.settle(connection, error)

    def execute_async(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        eta: datetime | None = None,
        countdown: float | None = None,
        idempotency_key: str | None = None,
    ) -> Ticket:
        """Validate an action now and let a worker run it; the ticket leads to its outcome.

        `eta` is when it is due (naive: UTC), `countdown` in how many seconds; at once if neither is given. Raises
        UnknownAction, InvalidArguments, PermissionDenied as `execute` does, ConfigurationError if the bus has no
        queue, ValueError for a time that is none. Permissions are asked again when it runs. A broker that is away
        loses nothing: `ticket.problem` says so, and the message is sent later.
        """
        self._refuse_misuse()
        self._services.needed_queue()
        due = due_at(eta, countdown)
        call = QueueingCall.of(self._services, self._caller, name, arguments, idempotency_key)
        return self._services.middleware.around_call(call.told, partial(self._queue, call, name, due))

    def require(self, permission: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Ask the application's checkpoint outside of any action, for what only reads. Raises PermissionDenied.

        Nothing is journaled, and what the checkpoint writes is rolled back. Without a checkpoint all is permitted.
        """
        self._refuse_misuse()
        ask(self._services, self._caller, permission, Arguments(arguments or {}))

    def close(self) -> None:
        """Let it run nothing any more, since the request it served is over."""
        self._closed = True

    def _queue(self, call: QueueingCall, name: str, due: float | None) -> Ticket:
        with ExitStack() as held:
            connection = call.connect(held)
            try:
                if not call.submit(connection):
                    return call.ticket_of_first(connection)
                return call.queue(connection, self._get_action_handler(name), due)
            except BaseException as error:
                outcome = call.settle(connection, error)
                return Ticket(outcome.action_id, outcome.action, now(), _services=self._services)

    def _get_action_handler(self, name: str) -> Action:
        return self._services.registry.get(name)

    def _refuse_misuse(self) -> None:
        if self._closed:
            raise Misuse("this runner is closed, with the request it was made for; make another with bus.runner()")
        here = running()
        if here is not None and here.engine is not self._services.engine:
            raise Misuse(
                "an action of another bus is no part of this one: it would be committed by itself, whatever becomes of "
                "the action whose handler calls it. Run it once this one has ended; self.runner runs those of this bus"
            )
        if here is not None:
            raise Misuse(
                "a handler runs other actions with self.runner (requires = ['runner']), inside its transaction"
            )
