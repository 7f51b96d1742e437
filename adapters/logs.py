"""Logs: one JSON object per line for programs, or text for people. Chosen by the entry points (`--log-format`)."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, Final

from actionbus.adapters.links import NO_LINKS, Links
from actionbus.adapters.safe_text import plain

_ABOUT_THE_ACTION: Final = (
    "action",
    "action_id",
    "actor",
    "correlation_id",
    "status",
    "position",
    "duration_us",
    "queue",
    "method",
    "path",
    "http_status",
    "ms",
    "address",
)
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """A log record as a JSON object: time, level, logger, message, and what is known of the action."""

    def __init__(self, links: Links = NO_LINKS) -> None:
        super().__init__()
        self._links = links

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {name: value for name in _ABOUT_THE_ACTION if (value := getattr(record, name, None)) is not None}
        if (page := self._links.page(told.get("action_id"))) is not None:
            told["inspector"] = page
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        # Whatever an application logs with: a log takes anything, which `values.payload` does not.
        return json.dumps(told, default=str).replace("\x7f", "\\u007f")


class TextFormatter(logging.Formatter):
    """A log record on one line for people: what it quotes can neither begin a line of its own nor steer a terminal."""

    def __init__(self, links: Links = NO_LINKS) -> None:
        super().__init__(_TEXT)
        self._links = links

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - it is the standard library's
        page = self._links.page(getattr(record, "action_id", None))
        return super().formatMessage(record) + (f", {page}" if page else "")

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def formatter(log_format: str) -> logging.Formatter:
    """The formatter called `text` or `json`. Lines about an action lead to its page, if its address is set."""
    links = Links.of(os.environ)
    return JsonFormatter(links) if log_format == "json" else TextFormatter(links)


def log_to_stderr(log_format: str) -> None:
    """Show everything from INFO up on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
