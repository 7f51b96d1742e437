"""ActionLogger, what a handler gets as `logger`; made by `gateway.execution` for each action that requires it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

from actionbus.core.secrecy.scrubbing import Scrubber


class ActionLogger(logging.LoggerAdapter[logging.Logger]):
    """The `logger` dependency: the logger `actionbus.actions.<name>`, with ids in `extra` and secrets scrubbed."""

    def __init__(self, action: str, about: Mapping[str, object], scrubber: Scrubber) -> None:
        super().__init__(logging.getLogger(f"actionbus.actions.{action}"), about)
        self._scrubber = scrubber

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Format and scrub before anything is handed to handlers of the log."""
        if self.isEnabledFor(level):
            text = str(msg)
            if args:
                text = text % (args[0] if len(args) == 1 and isinstance(args[0], Mapping) else args)
            if kwargs.get("exc_info"):
                kwargs["exc_info"] = self._clean(kwargs["exc_info"])
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            super().log(level, "%s", self._scrubber.text(text), **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the ids to the `extra` that the handler gave, whose names are its own."""
        given = kwargs.get("extra") or {}
        kwargs["extra"] = {name: self._scrubber.value(each) for name, each in given.items()} | dict(self.extra or {})
        return msg, kwargs

    def _clean(self, told: Any) -> Any:
        """`exc_info` as logging takes it (an exception, a triple of `sys.exc_info`, or true for the present one)."""
        error = told if isinstance(told, BaseException) else (told if isinstance(told, tuple) else sys.exc_info())[1]
        if error is None:
            return told
        clean = self._scrubber.exception(error)
        return (type(clean), clean, told[2] if isinstance(told, tuple) else clean.__traceback__)
