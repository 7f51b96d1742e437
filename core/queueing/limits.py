"""How long an attempt at a queued action may take, and how it learns that it was cancelled. Used by `queueing.queued`.

A handler is told by an exception, ActionTimeout, raised in the main thread by a timer; it may clean up. One that does
not hear it, because a library in C does not give control back, costs its worker's process the life a little later:
what it had written goes with its connection, as in any crash.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from types import FrameType
from typing import Final
from uuid import UUID

from sqlalchemy.pool import StaticPool

from actionbus.core.errors import ActionTimeout
from actionbus.core.gateway.services import Services

log = logging.getLogger("actionbus")
GRACE_S: Final = 5.0
"""After its time is over, until the process of a worker is ended that did not hear of it."""
_AGAIN_S: Final = 1.0
_GLANCE_S: Final = 0.2


class Process:
    """Whether this process is a worker's, which may be ended, since another takes its place. Who hears what it does."""

    is_worker = False
    tell: Callable[[str], None] = staticmethod(lambda _doing: None)
    """Told what it runs, and nothing when it has ended that."""


@contextmanager
def limited(name: str, seconds: float) -> Iterator[None]:
    """A block that may take so many seconds; ActionTimeout is raised in it after them.

    Only in a main thread: no other can be interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        log.warning("%s has a timeout, which can be kept in a process's main thread alone", name)
        yield
        return

    is_inside = False

    def strike(_number: int, _frame: FrameType | None) -> None:
        if is_inside:
            raise ActionTimeout(f"{name} took longer than its timeout of {seconds:g} s")

    end = threading.Timer(seconds + GRACE_S, _end_process, [name, seconds])
    end.daemon = True
    before = signal.signal(signal.SIGALRM, strike)
    try:
        if Process.is_worker:
            end.start()
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)  # again, for who catches whatever is raised
        try:
            is_inside = True
            yield
        finally:
            is_inside = False  # what strikes before this line is done is raised here, and the timer ends all the same
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        end.cancel()
        signal.signal(signal.SIGALRM, before)


def _end_process(name: str, seconds: float) -> None:
    log.error("%s did not end %.0f s after its timeout of %g s; its process is killed", name, GRACE_S, seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def asks_cancelled(services: Services, action_id: UUID) -> Callable[[], bool]:
    """What a handler asks by `self.cancelled`: the runs, on a connection that is none of the action's.

    They are looked at a few times a second, however often it asks.
    """
    if isinstance(services.engine.pool, StaticPool):  # one connection, which the action holds
        return lambda: False
    known, asked_at = False, float("-inf")

    def is_cancelled() -> bool:
        nonlocal known, asked_at
        if not known and time.monotonic() - asked_at >= _GLANCE_S:
            # A context in which no action runs: else a second connection would be refused to the handler.
            known = Context().run(services.runs.is_cancelled, action_id)
            asked_at = time.monotonic()
        return known

    return is_cancelled
