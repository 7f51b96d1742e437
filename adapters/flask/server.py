"""Serves a WSGI application with waitress, and drains on SIGTERM: what was begun is ended, nothing new is taken.

waitress reads a request whole before a thread has it, so slow clients hold no thread.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from waitress.server import create_server

log = logging.getLogger("actionbus.http")
_CLIENT_PATIENCE_S: Final = 30
"""A connection on which nothing happens for so long is closed."""
_LONGEST_HEADERS: Final = 65_536
_TURN_S: Final = 0.2


def serve(
    app: Callable[..., Any],
    host: str,
    port: int,
    *,
    threads: int = 8,
    drain: float = 30.0,
    most_bytes: int = 16_777_216,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then wait `drain` seconds at most for what is under way.

    `most_bytes` is the largest body that is read at all; `ready` is called with the address. Raises OSError if the
    address cannot be had. To be called in the main thread.
    """
    server = create_server(
        app, host=host, port=port, threads=threads, ident=None, channel_timeout=_CLIENT_PATIENCE_S,
        cleanup_interval=5, max_request_header_size=_LONGEST_HEADERS, max_request_body_size=most_bytes,
        connection_limit=1000, expose_tracebacks=False, clear_untrusted_proxy_headers=True,
    )  # fmt: skip
    # It warns of every request that waits for a thread, which under load is each.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    stopping = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in signals}
    ready(f"http://{host}:{server.effective_port}")
    try:
        while not stopping.is_set():
            _turn(server)
        log.info("draining")
        _drain(server, time.monotonic() + drain)
    finally:
        server.task_dispatcher.shutdown(timeout=1)
        server.asyncore.close_all(server._map)
        for number, handler in before.items():
            signal.signal(number, handler)


def _turn(server: Any) -> None:
    """Look once at all connections, for a moment at most."""
    server.asyncore.loop(timeout=_TURN_S, use_poll=True, map=server._map, count=1)


def _drain(server: Any, deadline: float) -> None:
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
        _turn(server)
    if server.active_channels:
        log.warning("%d connections were cut off", len(server.active_channels))
