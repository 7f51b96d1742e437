"""Events: records as server-sent events, as they are settled. Made by `journal_api`, iterated by the WSGI server.

An event's id is a position, and everything wanted up to it was sent before it: so a client that says which id it had
last goes on without a gap and without a double, whichever process of the server answers, and after a restart of it.
Positions are settled in order, and a record is sent only when all wanted before it were. Where nothing is wanted for a
while an id is sent alone, so that who comes back later has little to catch up with.

A stream holds a thread of the server, so it ends after a while. The client, a browser's EventSource at least, comes
back by itself, has its permission asked anew, and leaves its place to others meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from actionbus.core import Record
from actionbus.core.browsing.pages import Page
from actionbus.core.values.payload import shown_text

TURN_S: Final = 25.0
"""So long a stream lasts."""
_LOOK_S: Final = 0.25
_SIGN_S: Final = 5.0
"""So often the client is told that there is nothing, by which it is found out whether he is still there."""
_RETRY_MS: Final = 500


class Events:
    """One client's stream of records, as server-sent events."""

    def __init__(
        self,
        next_page: Callable[[int], Page],
        told: Callable[[Record], dict[str, Any]],
        after: int,
        stopping: threading.Event,
        end: Callable[[], None],
    ) -> None:
        self._next_page = next_page
        self._told = told
        self._after = after
        self._stopping = stopping
        self._end = end
        self._ended = threading.Lock()

    def __iter__(self) -> Iterator[bytes]:
        """Event after event, until its turn is over."""
        try:
            yield from self._events()
        finally:
            self.close()

    def close(self) -> None:
        """Give back its place, for another client."""
        if self._ended.acquire(blocking=False):
            self._end()

    def _events(self) -> Iterator[bytes]:
        yield f"retry: {_RETRY_MS}\nid: {self._after}\n\n".encode()
        over, told_at = time.monotonic() + TURN_S, time.monotonic()
        while time.monotonic() < over and not self._stopping.is_set():
            found = self._next_page(self._after)
            for record in reversed(found.records):
                yield f"id: {record.position}\nevent: record\ndata: {shown_text(self._told(record))}\n\n".encode()
            moved = found.high > self._after
            self._after = max(self._after, found.high)
            if found.records or time.monotonic() - told_at > _SIGN_S:
                told_at = time.monotonic()
                if not found.records or found.records[0].position < self._after:
                    yield f"id: {self._after}\n\n".encode()
            if not (found.has_newer and moved):
                self._stopping.wait(_LOOK_S)
