"""Waits: how many requests may wait at a time, for projections or new records, so that others are served meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from actionbus.adapters.http.refusals import Busy

MOST: Final = 4
"""Unless the server, which knows how many threads it has, says otherwise."""


class Waits:
    """Counts those that wait in this process."""

    def __init__(self, most: int = MOST) -> None:
        self.most = max(1, most)
        self._free = threading.BoundedSemaphore(max(1, most))

    @contextmanager
    def one(self) -> Iterator[None]:
        """Be one of them. Raises Busy if there are as many as may be."""
        self.take()
        try:
            yield
        finally:
            self.give_back()

    def take(self) -> None:
        """Be one of them until `give_back`. Raises Busy."""
        if not self._free.acquire(blocking=False):
            raise Busy("too many requests wait already; nothing was run, try again, or without waiting")

    def give_back(self) -> None:
        """Be one of them no more."""
        self._free.release()
