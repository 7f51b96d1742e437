"""A process that archives, attaches or prunes, and is killed at a step: at a call that tells a database or a disk to do
something. Used by `test_killed`, which finds out that whoever comes after it goes on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any, Final

from actionbus import Bus
from actionbus.core.history import archiving, thinning
from actionbus.replay.archives import attach as attaching
from actionbus.replay.archives.archive import archive
from actionbus.replay.archives.attach import attach
from actionbus.replay.archives.prune import prune
from tests.processes import CONTEXT
from tests.shop.app import make_application

STEPS: Final = frozenset(
    # What a driver sends; what becomes of files and folders.
    ["execute", "executemany", "commit", "fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "open"]
)
"""Calls into C by these names are steps. Between two of them nothing changes but this process's own memory."""
_VALUES: Final = (str, bytes, date, time)
"""What has a method `replace` that is none."""

OFTEN: Final = 200
"""After so many steps others have a turn: they write all the while, and no faster than what they write goes."""


def _archive(bus: Bus, upto: int, folder: Path) -> None:
    archive(bus, upto, folder, operator=True, watch=_Watching())


def _attach(bus: Bus, _upto: int, folder: Path) -> None:
    attach(bus, folder, operator=True, watch=_Watching())


def _prune(bus: Bus, upto: int, _folder: Path) -> None:
    record = bus.journal.at(upto)
    assert record is not None
    then = record.recorded_at + timedelta(days=1, microseconds=-1)  # others may be of the same moment
    prune(bus, operator=True, watch=_Watching(), now=then)


WORKS: Final = {"archive": _archive, "attach": _attach, "prune": _prune}


class _Counted:
    """Counts steps, and ends the process before one of them; 0 is never reached."""

    at = 0
    done = 0
    turns: Any = None

    def step(self) -> None:
        self.done += 1
        if self.done == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.done % OFTEN == 0:
            self.turns.release()

    def profile(self, _frame: Any, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ in STEPS and not isinstance(called.__self__, _VALUES):
            self.step()

    def begin(self, at: int) -> None:
        self.at, self.done = at, 0


_counted = _Counted()


class _Watching:
    """A step in the midst of each part of the work: a file that is written or read in half, rows that go."""

    def __call__(self, _what: str) -> Callable[[], None]:
        calls = 0

        def advance() -> None:
            nonlocal calls
            calls += 1
            if calls == 5:
                _counted.step()

        return advance


def _until(url: str, what: str, folder: str, upto: int, steps: tuple[int, int], turns: Any) -> None:
    """Do it in small transactions, and be killed at a step."""
    thinning._KEYS, archiving._RECORDS, attaching._RECORDS, attaching._IMAGES = 12, 25, 25, 25  # type: ignore[misc]
    before, after = steps
    with Bus(make_application(), url) as bus:
        operate = bus.operate

        def operated(*given: Any, **named: Any) -> Any:
            outcome = operate(*given, **named)
            _counted.begin(after)
            return outcome

        bus.operate = operated  # type: ignore[method-assign]
        _counted.turns = turns
        _counted.begin(before)
        sys.setprofile(_counted.profile)
        try:
            WORKS[what](bus, upto, Path(folder))
        finally:
            sys.setprofile(None)


def killed(
    bus: Bus,
    what: str,
    folder: Path,
    upto: int,
    *,
    before: int = 0,
    after: int = 0,
    meanwhile: Callable[[], object],
) -> bool:
    """Whether a process that does this was killed, or ended before that.

    It is killed at a step `before` the end of the action that decides it, or so many `after` that. `meanwhile` is called
    now and then.
    """
    turns = CONTEXT.Semaphore(0)
    url = bus.engine.url.render_as_string(hide_password=False)
    process = CONTEXT.Process(target=_until, args=(url, what, str(folder), upto, (before, after), turns))
    process.start()
    while process.is_alive():
        if turns.acquire(timeout=0.02):
            meanwhile()
    assert process.exitcode in (0, -signal.SIGKILL), f"{what} at {before} or {after} ended with {process.exitcode}"
    return process.exitcode == -signal.SIGKILL
