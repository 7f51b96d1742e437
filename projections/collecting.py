"""No garbage collection while a batch is at work, in however many threads. Feeders call it.

A batch makes many objects and no cycles; to look for some among them, again and again, takes a third of its time. What
others leave in cycles meanwhile is collected between batches, or once in a while where there is always one at work.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LONGEST_S: Final = 10.0
"""Seconds without a collection, at most."""


class _Batches:
    """How many are at work, of all threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._count = 0
        self._was_on = False
        self._since = 0.0

    def begin(self) -> None:
        """The first one turns the collector off."""
        with self._guard:
            if not self._count:
                self._was_on, self._since = gc.isenabled(), time.monotonic()
                gc.disable()
            self._count += 1

    def end(self) -> None:
        """The last one turns it on again, if it was on."""
        with self._guard:
            self._count -= 1
            if not self._count and self._was_on:
                gc.enable()
            is_due = self._count and self._was_on and time.monotonic() - self._since > _LONGEST_S
            if is_due:
                self._since = time.monotonic()
        if is_due:
            gc.collect()


_BATCHES: Final = _Batches()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Until it ends, or all others that were begun meanwhile."""
    _BATCHES.begin()
    try:
        yield
    finally:
        _BATCHES.end()
