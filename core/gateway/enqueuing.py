"""What an action is queued with: its run, its keys. For `execute_async`, at the top (`queueing.queued`) and nested."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from actionbus.core.declare.queue import key_names
from actionbus.core.declare.registry import Action
from actionbus.core.errors import WHOLE_ACTION, NotUnique
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.ticket import Ticket, moment
from actionbus.core.storage.rows import Statement
from actionbus.core.storage.runs import Run
from actionbus.core.values import payload

_LONGEST_KEY: Final = 180


def run_for(services: Services, action: Action, action_id: UUID, arguments: str | None, due: float | None) -> Run:
    """The run of an action with these validated arguments, due at `due` or at once."""
    handler, broker = action.handler, services.broker
    names = key_names(handler)
    return Run.new(
        action_id,
        action.name,
        handler.queue,
        due,
        broker.redeliver_after,
        priority=handler.priority,
        key=_text(names, arguments) if names else None,
        carried=broker.carries,
    )


def reserving(services: Services, action: Action, action_id: UUID, arguments: str | None) -> Statement | None:
    """The statement that keeps others like it from being queued, and changes no row where one is; None for no need."""
    if (unique := action.handler.unique) is None or not services.broker.reserves:
        return None
    return services.runs.reserving(unique_key(action, arguments), action_id, unique.seconds)


def unique_key(action: Action, arguments: str | None) -> str:
    """What actions that are the same by `unique` have in common."""
    unique = action.handler.unique
    assert unique is not None
    return f"{action.name[:60]}?{_digest(_text(unique.names(action.handler.arguments), arguments))}"


def not_unique(name: str, first: UUID) -> NotUnique:
    """What is told of an action that another one keeps from being queued."""
    error = NotUnique({WHOLE_ACTION: [f"{name} was queued already, as action {first}, and it is unique"]})
    error.first_id = first
    return error


def ticket_of(services: Services, first: UUID, name: str, queued_at: datetime, *, readable: bool = True) -> Ticket:
    """The ticket of an action that was queued before."""
    run = services.runs.get(first) if readable else None
    due = moment(run.due_at) if run else queued_at
    return Ticket(first, name, due, repeated=True, _services=services if readable else None)


def _text(names: Sequence[str], arguments: str | None) -> str:
    """Names and values as a text that people can read, or what is made of it where it is long."""
    values: Any = payload.loads(arguments or "{}")
    text = "&".join(f"{name}={payload.dumps(values.get(name))}" for name in names)
    return text if len(text) <= _LONGEST_KEY else _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
