"""A timeout's end: an exception where Python can be interrupted, the process's where it cannot; and nothing besides."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from contextlib import suppress

import pytest

from actionbus import ActionTimeout
from actionbus.core.queueing import limits
from actionbus.core.queueing.limits import Process, limited

NEVER_ENDS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_a_worker_that_cannot_be_interrupted_ends_with_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite counts for ever in C, where no signal of Python's is heard."""
    monkeypatch.setattr(limits, "GRACE_S", 0.05)
    child = os.fork()
    if not child:
        Process.is_worker = True
        with limited("count", 0.05):
            sqlite3.connect(":memory:").execute(NEVER_ENDS).fetchone()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_who_swallows_it_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_AGAIN_S", 0.02)
    told = 0
    with pytest.raises(ActionTimeout), limited("stubborn", 0.02):
        while told < 2:
            try:
                time.sleep(10)
            except ActionTimeout:
                told += 1
        time.sleep(10)
    assert told == 2


def test_nothing_is_left_of_it_afterwards() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with limited("quick", 60):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_one_that_strikes_at_any_moment_strikes_inside_or_not_at_all() -> None:
    """A timer that outlives its block would end something else: the next action, or the worker's loop."""
    before = signal.getsignal(signal.SIGALRM)
    for number in range(400):
        with suppress(ActionTimeout), limited("brief", 1e-6 * (number + 1)):
            pass
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0), number
        assert signal.getsignal(signal.SIGALRM) is before


def test_in_another_thread_it_is_said_that_it_cannot_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    def run() -> None:
        with limited("threaded", 0.01):
            pass

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "main thread alone" in caplog.text
