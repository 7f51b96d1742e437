"""Arguments of an older handler version, in the present handler's form. Used by the sandbox and the replayer."""

from __future__ import annotations

from typing import Any

from actionbus.core.declare.handler import ActionHandler
from actionbus.replay.errors import ReplayError


def upcast(handler: type[ActionHandler], arguments: dict[str, Any], version: int) -> dict[str, Any]:
    """Older arguments in the handler's present form. Raises ReplayError where `upcast` fails, or gives no dict."""
    try:
        made: Any = handler.upcast(dict(arguments), version)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise ReplayError(f"{handler.__qualname__}.upcast() of version {version} raised {told}") from error
    if not isinstance(made, dict):
        raise ReplayError(f"{handler.__qualname__}.upcast() must return a dict, not a {type(made).__name__}")
    return made
