"""Supervisor: runs parts of a service in processes of their own, and in place of one that dies another.

`actionbus worker` and `actionbus up` are made of it. A part is a function that runs until an event is set. It is run in
a forked child, so that a part that is killed, or that kills its process, takes no other with it; children of a
supervisor that was killed end by themselves.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final, NamedTuple, NoReturn

log = logging.getLogger("actionbus")
_GLANCE_S: Final = 0.1
_SOON_S: Final = 1.0
"""Before a part that ended within this time is started again, lest it does so all the time."""
_ORPHANED_S: Final = 1.0


class Part(NamedTuple):
    """What runs in one process: until the event is set, ending first what it is at."""

    name: str
    run: Callable[[threading.Event], None]


class Supervisor:
    """Runs parts until SIGTERM or Ctrl-C, and then until each has ended; a second signal ends them at once."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._children: dict[int, tuple[Part, float]] = {}
        self._asked = 0

    def run(self) -> int:
        """The exit status: 0 once all parts have ended as they were asked to."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for part in self._parts:
                self._start(part)
            told = 0
            while self._children:
                if self._asked > told:
                    told = self._asked
                    self._tell(signal.SIGTERM if told == 1 else signal.SIGKILL)
                self._wait()
        finally:
            self._tell(signal.SIGKILL)
            for number, handler in before.items():
                signal.signal(number, handler)
        return 0

    def _start(self, part: Part) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        # Until the child has handlers of its own, a signal that is meant for it waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            parent, child = os.getpid(), os.fork()
            if not child:
                _run_in_child(part, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        self._children[child] = (part, time.monotonic())

    def _wait(self) -> None:
        for child in list(self._children):
            found, status = os.waitpid(child, os.WNOHANG)
            if not found:
                continue
            part, began = self._children.pop(child)
            if self._asked:
                continue
            code = os.waitstatus_to_exitcode(status)
            log.warning("%s (process %d) ended with %d and is started again", part.name, child, code)
            if time.monotonic() - began < _SOON_S:
                time.sleep(_SOON_S)
            self._start(part)
        time.sleep(_GLANCE_S)

    def _tell(self, number: signal.Signals) -> None:
        for child in self._children:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                continue

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked += 1


def _run_in_child(part: Part, parent: int) -> NoReturn:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    threading.Thread(target=_watch_parent, args=[parent, stop], name="actionbus parent", daemon=True).start()
    code = 1
    try:
        part.run(stop)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        log.exception("%s raised", part.name)
    finally:  # nothing of the parent's is to be cleaned up here
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch_parent(parent: int, stop: threading.Event) -> None:
    """A supervisor that was killed asks nobody to stop."""
    while not stop.wait(_ORPHANED_S):
        if os.getppid() != parent:
            stop.set()
