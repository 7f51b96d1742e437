"""An attempt that ends in a way that nobody foresees: one outcome all the same, and the worker goes on, alone."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from actionbus import ActionFailed, Retry
from actionbus.core.queueing.worker import Worker
from actionbus.core.storage.queue_state import Queues
from tests.core.queueing.steps import Make, make, rows
from tests.helpers import let_time_pass
from tests.queued.actions.take_step import TakeStep
from tests.waiting import eventually

__all__ = ["make"]


class Speechless:
    """Has no text at all."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class SpeechlessError(Exception):
    """Neither has this."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [ValueError(Speechless()), SpeechlessError(), ValueError("\ud800\0")])
@pytest.mark.parametrize("again", [False, True])
def test_an_error_that_cannot_be_told_is_an_outcome(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: Exception, again: bool
) -> None:
    def fail(handler: Any) -> None:
        raise error

    monkeypatch.setattr(TakeStep, "execute", fail)
    if again:
        monkeypatch.setattr(TakeStep, "retry", Retry(on=(Exception,), attempts=2, backoff=[0.0]))
    bus = make()
    ticket = bus.runner("ana").execute_async("take_step", {"track": "a"})
    assert Worker(bus).run_due() == 1 + again
    with pytest.raises(ActionFailed) as failed:
        ticket.wait(0)
    assert failed.value.outcome.error is not None
    assert failed.value.outcome.error["type"].endswith(type(error).__name__)
    [dead] = Queues(bus.backend).dead_letters()
    assert (dead.attempts, (dead.problem or "").split(":")[0]) == (1 + again, type(error).__name__)


def test_who_gives_up_tells_the_attempts_that_were_made(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the claim by which it is given up is one, nor one that found the action's lock held."""

    def end(handler: Any) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(TakeStep, "execute", end)
    monkeypatch.setattr(TakeStep, "retry", Retry(on=(OSError,), attempts=2))
    bus = make()
    ticket = bus.runner("ana").execute_async("take_step", {"track": "a"})
    with monkeypatch.context() as patch:
        patch.setattr(bus.backend, "claim", lambda *_: False)
        for _ in range(3):
            Worker(bus).run_due()
            let_time_pass(bus, 5)
    run = bus.runs.get(ticket.action_id)
    assert run is not None
    assert (run.attempts, run.problem) == (0, "somebody held the action's lock")
    for _ in range(2):
        with pytest.raises(SystemExit):
            Worker(bus).run_due()
    assert Worker(bus).run_due() == 1
    [dead] = Queues(bus.backend).dead_letters()
    assert (dead.problem or "").startswith("AttemptsExhausted: given up after 2 attempts")
    assert dead.attempts == 2


def test_what_a_handler_forks_is_no_second_worker(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it returns or raises: it ends, by itself, and its parent's action is its parent's."""
    stop, children, codes = threading.Event(), [], []

    def fork(handler: TakeStep) -> dict[str, Any]:
        child = os.fork()
        if not child:
            if handler.args.track == "raises":
                raise ValueError("in the child")
            return {"number": 0}
        children.append(child)
        ended: list[int] = []

        def has_ended() -> bool:
            pid, status = os.waitpid(child, os.WNOHANG)
            ended.extend([os.waitstatus_to_exitcode(status)] if pid else [])
            return bool(pid)

        try:
            eventually(has_ended, "the end of the child", patience=30)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        codes.append(ended)
        if len(children) == 2:
            stop.set()
        return {"number": 1}

    monkeypatch.setattr(TakeStep, "execute", fork)
    bus = make()
    for track in ("returns", "raises"):
        bus.runner("ana").execute_async("take_step", {"track": track})
    Worker(bus).run(stop)
    assert codes == [[1], [1]]
    assert rows(bus, "SELECT count(*) FROM journal WHERE kind = 'outcome' AND status = 'succeeded'")[0][0] == 2
