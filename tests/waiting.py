"""Waiting in tests: for a condition, never for a time. Used by tests of threads, processes and servers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from sqlalchemy import event

from actionbus import Bus

T = TypeVar("T")
PATIENCE_S = 120.0
"""So long that only what never happens takes it, on however busy a machine. No test is faster or slower for it."""


def eventually(condition: Callable[[], T], what: str | Callable[[], str], *, patience: float = PATIENCE_S) -> T:
    """What `condition` gives as soon as that is true; `what` says in the failure which state was never reached.

    Who asks with much work (a command, say) rests the longer: it has the processor that it waits for others to use.
    """
    asked = time.monotonic()
    deadline = asked + patience
    while not (found := condition()):
        if (now := time.monotonic()) > deadline:
            raise AssertionError(f"not within {patience:.0f} s: {what() if callable(what) else what}")
        time.sleep(max(0.01, 2 * (now - asked)))
        asked = time.monotonic()
    return found


def answered(function: Callable[[], T], what: str) -> T:
    """What a function returns that must not wait for anything the test holds; `what` says what it waited for."""
    got: Future[T] = Future()

    def run() -> None:
        try:
            got.set_result(function())
        except BaseException as error:
            got.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    done, _ = wait([got], PATIENCE_S)
    assert done, f"no answer within {PATIENCE_S:.0f} s: {what}"
    return got.result()


def any_moment(longest: float) -> None:
    """Let a random time pass, so that what is killed or held dies or stalls anywhere in its work. Proves nothing."""
    time.sleep(random.uniform(0, longest))


class Asked:
    """Counts what a bus asks the journal: somebody who waits in a loop asks again and again."""

    def __init__(self, bus: Bus) -> None:
        self.times = 0
        event.listen(bus.backend.gateway, "before_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self.times += 1

    def until_again(self, times: int = 8) -> None:
        """Wait until it asked that often from now on: whoever waits has gone round its loop."""
        enough = self.times + times
        eventually(lambda: self.times >= enough, "somebody asks the database again and again")
