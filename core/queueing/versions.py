"""Whether this process's code can run an action that a process of another version queued. Used by `queueing.queued`."""

from __future__ import annotations

from typing import Any

from actionbus.core.declare.registry import Action, Registry
from actionbus.core.internal_errors import ForAnotherWorker
from actionbus.core.values.record import Record


def adopted(registry: Registry, submitted: Record) -> tuple[Action, dict[str, Any]]:
    """The action, and what was asked in its handler's present form. Raises ForAnotherWorker."""
    action = registry.find(submitted.action)
    if action is None:
        raise ForAnotherWorker("the code of the worker does not know the action")
    asked, known = submitted.handler_version, action.handler.version
    if asked is None or asked == known:
        return action, submitted.arguments
    queued = f"it was queued for version {asked} of its handler, and the code of the worker has version {known}"
    if asked > known:
        raise ForAnotherWorker(queued)
    if not registry.upcasts(action):
        raise ForAnotherWorker(f"{queued}, with no upcast(arguments, version)")
    return action, _upcast(action, submitted.arguments, asked, queued)


def _upcast(action: Action, arguments: dict[str, Any], version: int, queued: str) -> dict[str, Any]:
    try:
        made: Any = action.handler.upcast(dict(arguments), version)
    except Exception as error:
        raise ForAnotherWorker(
            f"{queued}, whose upcast() of version {version} raised {type(error).__name__}"
        ) from error
    if not isinstance(made, dict):
        raise ForAnotherWorker(f"{queued}, whose upcast() must return a dict, not a {type(made).__name__}")
    return made
