"""Signals: Ctrl-C between actions, not inside one, for commands that run many; SIGTERM before a worker can take it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from actionbus.adapters.cli.common import say


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

    def _on_sigint(self, _number: int, _frame: FrameType | None) -> None:
        if not self._inside or self._asked:
            raise KeyboardInterrupt
        self._asked = True
        say("stopping after the action that runs; Ctrl-C again to cut it off", stderr=True)


@contextmanager
def exits_on_sigterm() -> Iterator[None]:
    """A block in which SIGTERM exits with 0, having cleaned up, until whatever runs in it takes the signal over."""
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
