"""What a handler declares of how it is run, as JSON and in words; `actionbus actions NAME` shows it.

Only what is not as in every handler: its queue, priority, retries, timeout, keys, schedule and isolation.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from actionbus.core import ActionHandler, Retry, Unique
from actionbus.core.declare.queue import key_names
from actionbus.core.declare.registry import Action
from actionbus.core.values.tagged import class_name


def declared(action: Action) -> dict[str, Any]:
    """As JSON, by the names of the declarations."""
    handler = action.handler
    told: dict[str, Any] = {}
    for name in ("queue", "priority", "timeout", "every"):
        if (value := getattr(handler, name)) != getattr(ActionHandler, name):
            told[name] = value
    if handler.retry is not None:
        told["retry"] = _retry(handler.retry)
    if handler.concurrency_key is not None:
        told["concurrency_key"] = list(key_names(handler))
    if handler.unique is not None:
        told["unique"] = _unique(action, handler.unique)
    if handler.isolation is not None or action.isolation != "READ COMMITTED":
        told["isolation"] = action.isolation
    return told


def in_words(action: Action) -> list[tuple[str, str]]:
    """By name, for people."""
    return [(name, _WORDS.get(name, str)(value)) for name, value in declared(action).items()]


def _retry(retry: Retry) -> dict[str, Any]:
    backoff: Any = retry.backoff
    if callable(backoff):
        backoff = f"{backoff.__module__}.{getattr(backoff, '__qualname__', type(backoff).__qualname__)}()"
    return {"on": [class_name(each) for each in retry.kinds], "attempts": retry.attempts, "backoff": backoff}


def _unique(action: Action, unique: Unique) -> dict[str, Any]:
    period = unique.for_.total_seconds() if isinstance(unique.for_, timedelta) else unique.for_
    return {"by": list(unique.names(action.handler.arguments)), "for": period}


def _retry_in_words(retry: dict[str, Any]) -> str:
    kinds = ", ".join(each.rpartition(":")[2] for each in retry["on"])
    match retry["backoff"]:
        case str(function):
            pauses = f"pauses by {function}"
        case [only]:
            pauses = f"after {only:g} s each time"
        case [*pauses_s]:
            pauses = f"after {', '.join(f'{each:g}' for each in pauses_s)} s, the last of which goes on"
        case first:
            pauses = f"after {first:g} s, doubled up to an hour"
    return f"on {kinds}: {retry['attempts']} attempts, {pauses}"


def _unique_in_words(unique: dict[str, Any]) -> str:
    by = f"by {', '.join(unique['by'])}" if unique["by"] else "whatever its arguments"
    match unique["for"]:
        case None:
            return f"{by}, while another one is on its way"
        case str(period):
            return f"{by}, for {period}"
        case seconds:
            return f"{by}, for {seconds:g} s"


_WORDS: Final[dict[str, Callable[[Any], str]]] = {
    "priority": lambda value: f"{value} (higher first, else 0)",
    "timeout": lambda value: f"{value:g} s",
    "every": lambda value: value if len(value.split()) == 6 else f"{value} UTC",
    "retry": _retry_in_words,
    "concurrency_key": lambda names: f"{', '.join(names)}: one at a time, in order",
    "unique": _unique_in_words,
}
