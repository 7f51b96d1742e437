"""Serves a WSGI application with waitress, and drains on SIGTERM: what was begun is ended, nothing new is taken.

waitress reads a request whole before a thread has it, so slow clients hold no thread; `adapters.flask.connections` sees
to it that they hold no connection either.
"""

from __future__ import annotations

import logging
import resource
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from actionbus.adapters.flask.connections import Server
from actionbus.adapters.http.access import STOPPING, AccessLog

log = logging.getLogger("actionbus.http")
_LONGEST_HEADERS: Final = 65_536
_MOST_CONNECTIONS: Final = 1000
_FILES_KEPT_FREE: Final = 100
"""For the database, the documents, the log."""
_TURN_S: Final = 0.2


def serve(
    app: Callable[..., Any],
    host: str,
    port: int,
    *,
    threads: int = 8,
    drain: float = 30.0,
    patience: float = 30.0,
    most_bytes: int = 16_777_216,
    liveness: str | None = "/health/live",
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then wait `drain` seconds at most for what is under way.

    A client has `patience` seconds to send a request, and as many to take its answer. `most_bytes` is the largest body
    that is read at all; `liveness` is a path that is answered whatever else is under way; `ready` is called with the
    address. Raises OSError if the address cannot be had. To be called in the main thread.
    """
    stopping = threading.Event()
    server = Server(
        AccessLog(_told_when(app, stopping)),
        liveness=liveness,
        host=host,
        port=port,
        threads=threads,
        ident=None,
        channel_timeout=max(1, round(patience)),
        cleanup_interval=1,
        max_request_header_size=_LONGEST_HEADERS,
        max_request_body_size=most_bytes,
        connection_limit=_most_connections(),
        expose_tracebacks=False,
        clear_untrusted_proxy_headers=True,
    )
    # It warns of every request that waits for a thread, which under load is each.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in signals}
    ready(f"http://{host}:{server.effective_port}")
    try:
        while not stopping.is_set():
            server.turn(_TURN_S)
        log.info("draining")
        _drain(server, time.monotonic() + drain)
    finally:
        server.shut_down()
        for number, handler in before.items():
            signal.signal(number, handler)


def _told_when(app: Callable[..., Any], stopping: threading.Event) -> Callable[..., Any]:
    """The app, for whose streams there is a way to know that they are to end."""

    def with_stopping(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ[STOPPING] = stopping
        return app(environ, start_response)

    return with_stopping


def _most_connections() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if files < 0 else max(10, min(_MOST_CONNECTIONS, files - _FILES_KEPT_FREE))


def _drain(server: Server, deadline: float) -> None:
    """Close the door; then let every request that was begun be answered."""
    server.accepting = False
    server.del_channel()
    server.socket.close()
    while server.active_channels and time.monotonic() < deadline:
        for channel in list(server.active_channels.values()):
            if channel.requests or channel.request is not None or channel.total_outbufs_len:
                channel.close_when_flushed = not (channel.requests or channel.request)
            else:
                channel.handle_close()
        server.turn(_TURN_S)
    if server.active_channels:
        log.warning("%d connections were cut off", len(server.active_channels))
