"""Signals: Ctrl-C between actions, not inside one, for commands that run many; SIGTERM before a worker can take it;
both between two batches, for commands that follow the journal.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from actionbus.adapters.cli.printing import say


class SigintGuard:
    """While active, the first Ctrl-C inside `uninterrupted` waits until the block has ended; a second one does not."""

    def __init__(self) -> None:
        self._inside = False
        self._asked = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._on_sigint)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """A block that Ctrl-C does not cut short. Raises KeyboardInterrupt at its end if there was one."""
        self._inside = True
        try:
            yield
        finally:
            self._inside = False
        if self._asked:
            raise KeyboardInterrupt

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block inside `uninterrupted` that waits for others, and that Ctrl-C may cut short."""
        if self._asked:
            raise KeyboardInterrupt
        self._inside = False
        yield
        self._inside = True

    def _on_sigint(self, _number: int, _frame: FrameType | None) -> None:
        if not self._inside or self._asked:
            raise KeyboardInterrupt
        self._asked = True
        say("stopping once what runs has ended; Ctrl-C again interrupts it", stderr=True)


@contextmanager
def exits_on_sigterm() -> Iterator[None]:
    """A block in which SIGTERM exits with 0, having cleaned up, until whatever runs in it takes the signal over."""
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class AskedToEnd(SystemExit):
    """Raised by SIGTERM, wherever that strikes: in the import of an application as well, which did not fail by it."""


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise AskedToEnd(0)


@contextmanager
def until_asked(*, ends_when_asked_again: bool = False) -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that nothing is cut off in its middle.

    A second one changes nothing; or it just ends, for what may wait for somebody who reads no more.
    """
    stop = threading.Event()

    def asked(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and ends_when_asked_again:
            raise KeyboardInterrupt
        stop.set()

    before = {each: signal.signal(each, asked) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
