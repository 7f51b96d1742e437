"""Processes that die at a certain statement. Used by tests of calls after the commit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

_CONTEXT = multiprocessing.get_context("fork")
_SENT = {"execute", "commit", "write", "send", "sendall", "connect"}
"""Statements to a driver; and what a file or another process is told with."""


def die_at(number: int, event: str) -> None:
    """Die before (`c_call`) or after (`c_return`) the n-th statement from now on."""
    sent = 0

    def count(frame: Any, what: str, argument: Any) -> None:
        nonlocal sent
        if what == event and getattr(argument, "__name__", "") in _SENT and _is_watched(frame):
            sent += 1
            if sent == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def _is_watched(frame: Any) -> bool:
    module = frame.f_globals.get("__name__", "")
    return module.startswith(("actionbus", "sqlalchemy.engine", "tests.core.after_commit", "http.client"))


def killed(do: Callable[[], object], number: int, event: str) -> bool:
    """Do it in a child that dies at the n-th statement; whether it came to that, and not to its end."""

    def run() -> None:
        die_at(number, event)
        do()
        os._exit(0)

    process = _CONTEXT.Process(target=run)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0
