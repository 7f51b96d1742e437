"""AccessLog, a line for every request: WSGI around any app. `actionbus serve` has it; others wrap their `wsgi_app`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from actionbus.core.values.payload import printable_text

log = logging.getLogger("actionbus.access")
ACTOR: Final = "actionbus.actor"
CORRELATION_ID: Final = "actionbus.correlation_id"
"""Keys of the WSGI environment under which an app inside leaves what it found out."""
STOPPING: Final = "actionbus.stopping"
"""Likewise under which a server leaves a `threading.Event` that is set when it is about to stop."""


class AccessLog:
    """Logs method, path, status, time, actor and address; no query, no header and no body, for they may be personal."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve a request and log it."""
        began, told = time.perf_counter(), ["500"]

        def note_status(status: str, headers: Any, *more: Any) -> Any:
            told[0] = status
            return start_response(status, headers, *more)

        try:
            return self._app(environ, note_status)
        finally:
            log_request(
                environ.get("REQUEST_METHOD"),
                environ.get("PATH_INFO"),
                int(told[0].split(" ")[0]),
                time.perf_counter() - began,
                environ.get("REMOTE_ADDR"),
                actor=environ.get(ACTOR),
                correlation_id=environ.get(CORRELATION_ID),
            )


def log_request(
    method: Any, path: Any, status: int, seconds: float, address: Any, *, actor: Any = None, correlation_id: Any = None
) -> None:
    """Write the line."""
    shown_method, shown_path, ms = printable_text(method, 20), printable_text(path), round(seconds * 1000, 1)
    about = {
        "method": shown_method,
        "path": shown_path,
        "http_status": status,
        "ms": ms,
        "address": address,
        "actor": actor,
        "correlation_id": correlation_id,
    }
    who = printable_text(actor) if actor is not None else "-"
    log.info("%s %s %d in %.1f ms, from %s, %s", shown_method, shown_path, status, ms, address, who, extra=about)
