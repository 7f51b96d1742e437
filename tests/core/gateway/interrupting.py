"""Raises at any line of core that a test chooses, as a signal or a watchdog would."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import actionbus.core
from actionbus.core.storage.sqlite_guard import Guard

CORE = str(Path(actionbus.core.__file__).parent) + os.sep


class Interrupter:
    """Raises at the n-th line that core executes, once, and notes whether it came to that."""

    def __init__(self, at: int, error: type[BaseException]) -> None:
        self.at = at
        self.error = error
        self.lines = 0
        self.where: str | None = None

    def __call__(self, frame: FrameType, what: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(CORE):
            return None
        if what == "line" and not _is_with(frame) and not _is_asked_by_sqlite(frame):
            self.lines += 1
            if self.lines == self.at and self.where is None:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise self.error
        return self


def _is_with(frame: FrameType) -> bool:
    """Whether a block may be about to exit here: where a trace can strike, but no signal before `__exit__` is called."""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")


def _is_asked_by_sqlite(frame: FrameType) -> bool:
    """Whether sqlite3 would make a denial of what is raised here: see the test of its own below."""
    return frame.f_code in (Guard.__call__.__code__, Guard._answer.__code__)


def interrupted(at: int, error: type[BaseException], do: Callable[[], Any]) -> tuple[Interrupter, type | None]:
    """Do it, and be interrupted; with what it was raised, without its traceback, which would keep connections alive."""
    interrupter = Interrupter(at, error)
    before = sys.gettrace()
    sys.settrace(interrupter)
    try:
        do()
    except BaseException as raised:
        sys.settrace(before)
        return interrupter, type(raised)
    finally:
        sys.settrace(before)
    return interrupter, None
