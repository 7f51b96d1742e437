"""Supervisor: runs parts of a service in processes of their own, and in place of one that dies another.

`actionbus worker` and `actionbus up` are made of it. A part is a function that runs until an event is set. It is run in
a forked child, so that a part that is killed, or that kills its process, takes no other with it; children of a
supervisor that was killed end by themselves. What a child is at it writes where its supervisor can read it, and whether
it is to stop the other way: a handler may take the signal for itself, or give no control back to hear it.
"""

from __future__ import annotations

import logging
import mmap
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
_TOLD_S: Final = 1.0
"""After the signal, until it is said what is waited for."""
_HANDS_BACK_S: Final = 10.0
GRACE_S: Final = 30.0
"""That parts may take to end what they are at."""
_BOARD: Final = 512


class Part(NamedTuple):
    """What runs in one process: until the event is set, ending first what it is at."""

    name: str
    run: Callable[[threading.Event], None]


class Child(NamedTuple):
    """A process, and what both sides write: whether it is to stop, and what it is at."""

    part: Part
    began: float
    board: mmap.mmap


class Supervisor:
    """Runs parts until SIGTERM or Ctrl-C, and then until each has ended; a second signal ends them at once.

    So does the end of `grace` seconds. `hands_back` is told the ids of the processes that were ended in either way.
    """

    def __init__(
        self, parts: Sequence[Part], *, grace: float = GRACE_S, hands_back: Callable[[list[int]], None] | None = None
    ) -> None:
        self._parts = parts
        self._children: dict[int, Child] = {}
        self._asked = 0
        self._grace, self._hands_back = grace, hands_back

    def run(self) -> int:
        """The exit status: 0 once all parts have ended as they were asked to."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for part in self._parts:
                self._start(part)
            while self._children and not self._asked:
                self._wait()
            self._stop()
        finally:
            self._tell(signal.SIGKILL)
            for number, handler in before.items():
                signal.signal(number, handler)
        return 0

    def _stop(self) -> None:
        """Let each end what it is at, for a while; then end those that are left, and hand back what they had."""
        for child in self._children.values():
            child.board[0] = 1
        self._tell(signal.SIGTERM)
        asked, is_said = time.monotonic(), False
        while self._children and self._asked < 2 and time.monotonic() - asked < self._grace:
            if not is_said and time.monotonic() - asked > _TOLD_S:
                is_said = True
                self._say_what_is_waited_for()
            self._wait()
        if left := list(self._children):
            for number, child in self._children.items():
                log.warning("%s (process %d) did not end, and is killed%s", child.part.name, number, _at(child))
            self._tell(signal.SIGKILL)
            while self._children:
                self._wait()
            if self._hands_back is not None:
                _hand_back(self._hands_back, left)

    def _say_what_is_waited_for(self) -> None:
        for number, child in self._children.items():
            log.warning(
                "waiting up to %g s for %s (process %d)%s; a second signal ends it at once, --grace says how long",
                self._grace,
                child.part.name,
                number,
                _at(child),
            )

    def _start(self, part: Part) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        # Until the child has handlers of its own, a signal that is meant for it waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            board = mmap.mmap(-1, _BOARD)
            parent, child = os.getpid(), os.fork()
            if not child:
                _run_in_child(part, parent, board)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        self._children[child] = Child(part, time.monotonic(), board)

    def _wait(self) -> None:
        for child in list(self._children):
            found, status = os.waitpid(child, os.WNOHANG)
            if not found:
                continue
            part, began, _ = self._children.pop(child)
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


def _at(child: Child) -> str:
    told = bytes(child.board[1:]).split(b"\0", 1)[0].decode(errors="replace")
    return f", which runs {told}" if told else ""


def _hand_back(hands_back: Callable[[list[int]], None], processes: list[int]) -> None:
    """In a thread: a database that is away keeps no process from ending."""

    def run() -> None:
        try:
            hands_back(processes)
        except Exception as error:
            log.warning("what they ran could not be handed back, and is taken back by other workers: %s", error)

    thread = threading.Thread(target=run, name="actionbus handing back", daemon=True)
    thread.start()
    thread.join(_HANDS_BACK_S)


_board: mmap.mmap | None = None
"""In a child, where it writes what it is at."""


def at_work(doing: str) -> None:
    """Note for the supervisor what this process is at; nothing, when it has ended that."""
    if _board is not None:
        _board[1:] = doing.encode()[: _BOARD - 2].ljust(_BOARD - 1, b"\0")


class _Stop(threading.Event):
    """Set by the signal, or by the supervisor where nobody heard that."""

    def __init__(self, board: mmap.mmap) -> None:
        super().__init__()
        self._board = board

    def is_set(self) -> bool:
        return super().is_set() or bool(self._board[0])


def _run_in_child(part: Part, parent: int, board: mmap.mmap) -> NoReturn:
    global _board
    _board = board
    stop = _Stop(board)
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
    """A supervisor that was killed asks nobody to stop; and a handler may have taken the signal for itself."""
    while not stop.wait(_ORPHANED_S):
        if os.getppid() != parent or stop.is_set():
            stop.set()
