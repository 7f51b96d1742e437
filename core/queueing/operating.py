"""What operators decide about queued actions, each decision an action on record. `ActionRunner` offers it.

The actions are no part of the application's catalogue: they are added for the one call, as with `history.reverting`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from actionbus.core.declare.application import Application
from actionbus.core.declare.broker import Message
from actionbus.core.declare.dependencies import pure
from actionbus.core.declare.queue import TICK
from actionbus.core.declare.registry import QUEUE_ACTIONS, Registry
from actionbus.core.errors import ActionBusError, Misuse
from actionbus.core.gateway.call import Call
from actionbus.core.gateway.nested import NestedRunner
from actionbus.core.gateway.publishing import publish
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.ticket import moment
from actionbus.core.internal_errors import ForAnotherWorker
from actionbus.core.queueing.claiming import settle_cancelled
from actionbus.core.queueing.versions import adopted
from actionbus.core.storage.pooling import ACTING
from actionbus.core.storage.queue_state import QueuesInside
from actionbus.core.values import payload
from actionbus.core.values.caller import Caller
from actionbus.core.values.record import Outcome, Record

_WAKING: Final = frozenset({"cancel_run", "reschedule_run", "retry_run", "resume_queue", "queue_tick"})


class Operating:
    """The work of these actions. `record` is what was submitted of the action that one is about."""

    def __init__(self, services: Services, record: Record | None = None) -> None:
        self._services, self._record = services, record

    def application(self) -> Application:
        """The application with these actions."""
        made = copy.copy(self._services.application)
        made.actions = (*made.actions, QUEUE_ACTIONS)
        made.dependencies = {**made.dependencies, "operating": pure(lambda: self)}
        return made

    def cancel(self, session: Session, action_id: UUID) -> str | None:
        """Cancel it; what it was doing, None if it was nothing that can be cancelled."""
        inside, by = self._inside(session), session.connection().info[ACTING].action_id
        state = inside.cancel(action_id, by)
        return state or ("dead" if inside.forget_dead(action_id) else None)

    def again(self, session: Session, runner: NestedRunner, action_id: UUID) -> UUID | None:
        """Queue it again on behalf of who asked for it first; None if it is no dead letter."""
        if self._record is None or not self._inside(session).forget_dead(action_id):
            return None
        try:
            action, arguments = adopted(self._services.registry, self._record)
        except ForAnotherWorker as why:
            raise Misuse(f"{self._record.action} cannot be queued by this code: {why}") from None
        record = self._record
        context = payload.dumps(record.context) if record.context is not None else None
        caller = Caller(record.actor, record.correlation_id, context)
        return runner.queue_for(caller, action.name, arguments).action_id

    def reschedule(self, session: Session, action_id: UUID, due_at: datetime | None) -> datetime | str:
        """Another time for it; when that is, or why that cannot be."""
        inside = self._inside(session)
        at = None if due_at is None else due_at.timestamp()
        due = inside.reschedule(action_id, at)
        if due is not None:
            return moment(due)
        there = inside.is_there(action_id)
        return "runs already, or was cancelled" if there else "is no action that waits in a queue"

    def unknown_queue(self, session: Session, name: str) -> str | None:
        """Why there is no such queue; None if there is."""
        known = self._services.registry.queues()
        if name in known or self._inside(session).is_known(name):
            return None
        return f"is the name of no queue; there are: {', '.join(known)}"

    def pause(self, session: Session, queue: str, *, paused: bool) -> bool:
        """Pause or resume a queue; whether that changes anything."""
        return self._inside(session).pause(queue, paused=paused)

    def tick(self, session: Session, runner: NestedRunner, args: Any) -> dict[str, Any] | None:
        """Queue a scheduled action; what is told of it, None if another scheduler did."""
        if not self._inside(session).tick(args.action, args.schedule, args.before, args.tick.timestamp()):
            return None
        missed = {"missed_since": args.missed_since} if args.missed else {}
        action = self._services.registry.get(args.action)
        given = {TICK: args.tick.astimezone(UTC).isoformat()} if TICK in action.handler.arguments else {}
        try:
            ticket = runner.execute_async(args.action, given)
        except ActionBusError as error:  # what refuses this tick may not refuse the next one
            return missed | {"refused": str(error)}
        return missed | {"queued": ticket.action_id, "repeated": ticket.repeated}

    def _inside(self, session: Session) -> QueuesInside:
        return QueuesInside(self._services.backend, session.connection())


def operate(services: Services, caller: Caller, name: str, arguments: Mapping[str, Any]) -> Outcome:
    """Run one of these actions. Raises what it raises."""
    action_id = arguments.get("action_id")
    record = services.journal.submitted(UUID(str(action_id))) if action_id is not None else None
    application = Operating(services, record).application()
    outcome = _executed(
        replace(services, application=application, registry=Registry(application)), caller, name, arguments
    )
    _after(services, name, outcome)
    return outcome


def _executed(services: Services, caller: Caller, name: str, arguments: Mapping[str, Any]) -> Outcome:
    call = Call.of(services, caller, name, arguments, None)

    def run() -> Outcome:
        with call as connection:
            try:
                call.submit(connection)
                return call.run(connection, services.registry.get(name))
            except BaseException as error:
                return call.settle(connection, error)

    return services.middleware.around_call(call.told, run)


def _after(services: Services, name: str, outcome: Outcome) -> None:
    """What need not wait for whoever looks next: a cancelled run has its outcome, workers are woken."""
    if name == "cancel_run" and outcome.result["was"] == "waiting":
        run = services.runs.get(outcome.result["action_id"])
        if run is not None and run.worker is None:
            settle_cancelled(services, run)
    if name in _WAKING and not services.broker.carries:
        with services.backend.connection() as connection:
            publish(services, Message(outcome.action_id, name, ""), connection)
