"""How actions, runs, records and outcomes look as JSON, on the command line and over HTTP alike."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from enum import Enum
from itertools import takewhile
from typing import Any

from actionbus.core import ActionHandler, Arg, Limits, Outcome, Ticket
from actionbus.core.declare.registry import Action
from actionbus.core.storage.queue_state import DeadLetter
from actionbus.core.storage.runs import Run
from actionbus.core.values.payload import primitive


def described(action: Action) -> dict[str, Any]:
    """An action as JSON."""
    handler = action.handler
    told = {
        "action": action.name,
        "version": handler.version,
        "description": summary(action, whole=True),
        "permission": handler.permission,
        "arguments": [_described_arg(name, arg) for name, arg in handler.arguments.items()],
    }
    return told | ({"for_operators": True} if action.for_operators else {})


def summary(action: Action, *, whole: bool = False) -> str:
    """The handler's docstring, or its first line; nothing if it has none of its own."""
    own = takewhile(lambda kind: kind is not ActionHandler, action.handler.__mro__)
    text = next((inspect.cleandoc(kind.__doc__) for kind in own if kind.__doc__), "")
    return text if whole else text.split("\n")[0]


def type_name(arg: Arg) -> str:
    """How an argument's type is shown."""
    name = str(arg.type) if hasattr(arg.type, "__args__") else getattr(arg.type, "__name__", type(arg.type).__name__)
    return f"list[{name}]" if arg.many else name.replace("typing.", "")


def options_of(arg: Arg) -> list[Any] | None:
    """The values that an argument may have, if they are listed."""
    if arg.options is not None:
        return list(arg.options)
    if isinstance(arg.type, type) and issubclass(arg.type, Enum):
        return [member.value for member in arg.type]
    return None


def _described_arg(name: str, arg: Arg) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "type": type_name(arg), "required": arg.required}
    if arg.has_default:
        made = arg.default() if callable(arg.default) else arg.default
        told["default"] = primitive(made, Limits()) if not callable(arg.default) else None
    if (options := options_of(arg)) is not None:
        told["options"] = primitive(options, Limits())
    return told | {"sensitive": arg.sensitive, "personal": arg.personal, "description": arg.description}


def described_run(run: Run) -> dict[str, Any]:
    """A queued action on its way as JSON."""
    told: dict[str, Any] = {
        "action_id": run.action_id,
        "action": run.action,
        "state": run.state,
        "queue": run.queue,
        "due_at": _time(run.due_at),
        "attempts": run.attempts,
    }
    if run.worker is not None and run.claimed_at is not None:
        told |= {"worker": run.worker, "running_since": _time(run.claimed_at)}
    told |= {"priority": run.priority} if run.priority else {}
    told |= {"concurrency_key": run.concurrency_key} if run.concurrency_key else {}
    told |= {"cancelled_by": run.cancelled_by} if run.cancelled_by else {}
    return told | ({"problem": run.problem} if run.problem else {})


def described_dead_letter(letter: DeadLetter) -> dict[str, Any]:
    """A queued action that ended badly as JSON."""
    return {**letter._asdict(), "queued_at": _time(letter.queued_at), "ended_at": _time(letter.ended_at)}


def described_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON."""
    return {
        "action_id": outcome.action_id,
        "action": outcome.action,
        "status": outcome.status,
        "position": outcome.position,
        "repeated": outcome.repeated,
        "result": outcome.result,
    }


def described_ticket(ticket: Ticket) -> dict[str, Any]:
    """A ticket as JSON."""
    told = {
        "action_id": ticket.action_id,
        "action": ticket.action,
        "status": "queued",
        "due_at": ticket.due_at.isoformat(),
        "repeated": ticket.repeated,
    }
    return told | ({"problem": ticket.problem} if ticket.problem else {})


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
