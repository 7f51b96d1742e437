"""Runs the next queued action, or a certain one: the way from a claim to what comes of it. For every worker.

The argument why a run has one outcome, and its key one run at a time, is in docs/decisions/0029-claims.md. In short: a
row is claimed by one statement; then the action's lock is taken, which ends with the connection; and under the lock it
is looked at whether the claim still stands. So whoever finds a claimed row whose lock is free may take it back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.declare.broker import Message
from actionbus.core.errors import ActionCancelled
from actionbus.core.gateway.leftovers import leave_nothing_open
from actionbus.core.gateway.publishing import publish
from actionbus.core.gateway.recovery import row_without_run
from actionbus.core.gateway.services import Services
from actionbus.core.internal_errors import AttemptUnfinished, ForAnotherWorker
from actionbus.core.queueing.limits import Process
from actionbus.core.queueing.queued import QueuedCall
from actionbus.core.storage.drivers import is_usable
from actionbus.core.storage.runs import Run
from actionbus.core.values.backoff import LONGEST_PAUSE_S
from actionbus.core.values.record import Outcome

log = logging.getLogger("actionbus")
FIRST_PAUSE_S: Final = 1.0
"""After an attempt that did not finish; doubled with every further one."""
_LOCK_TRIES: Final = 40
_LOCK_PAUSE_S: Final = 0.005
_BUSY_S: Final = 1.0
"""How long a run is left alone whose lock somebody holds."""
STALE_S: Final = 3.0
"""How long a claim may lack its lock: what lies between the two statements of a worker, with much to spare."""

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Ran(NamedTuple):
    """What a worker found: whether it had something to do, and the outcome, if it came to one."""

    anything: bool
    outcome: Outcome | None = None


NOTHING: Final = Ran(anything=False)


def run_queued(
    services: Services, action_id: UUID, worker: str, overrides: Mapping[str, Any] = _NONE
) -> Outcome | None:
    """Run an action that is queued and may begin now; None if there is nothing to do, or it is to be tried again later.

    Raises what the action raises once its outcome is written, as `execute` does.
    """
    run = services.runs.get(action_id)
    if run is not None and run.cancelled_by is not None and run.worker is None:
        settle_cancelled(services, run)
        return None
    return _run(services, worker, None, action_id, overrides).outcome


def run_next(services: Services, worker: str, queues: Sequence[str] | None = None) -> Ran:
    """Run the next action of these queues that may begin now, as `run_queued` does."""
    return _run(services, worker, queues, None)


def _run(
    services: Services,
    worker: str,
    queues: Sequence[str] | None,
    only: UUID | None,
    overrides: Mapping[str, Any] = _NONE,
) -> Ran:
    with services.backend.connection() as connection:
        run = services.claims.take(connection, worker, services.broker.redeliver_after, queues=queues, only=only)
        if run is None:
            if only is not None:
                _forget_settled(services, connection, only)
            return NOTHING
        if not _locked(services, connection, run.action_id):
            services.runs.hand_back(run, _BUSY_S, "somebody held the action's lock", connection, begun=False)
            return Ran(anything=True)
        Process.tell(f"{run.action}, action {run.action_id}")
        try:
            return Ran(anything=True, outcome=_attempt(services, connection, run, overrides))
        except AttemptUnfinished as error:
            unfinished = error
        finally:
            Process.tell("")
            _release(services, connection, run.action_id)
            _wake_next(services, connection, run)
    # Where the connection was lost, another is taken only once it is given back.
    _try_later(services, run, unfinished, None)
    if (ended := _end_of_process(unfinished)) is not None:
        raise ended
    return Ran(anything=True)


def _attempt(services: Services, connection: Connection, run: Run, overrides: Mapping[str, Any]) -> Outcome | None:
    """Make an attempt, under the lock. What did not finish is handed back before that is released, if possible."""
    call = _call(services, connection, run, overrides)
    if call is None:
        return None
    try:
        return services.middleware.around_call(call.told, partial(call.attempt, connection, run))
    except AttemptUnfinished as error:
        if is_usable(connection):
            leave_nothing_open(services.backend, connection)
            _try_later(services, run, error, connection)
        raise


def _locked(services: Services, connection: Connection, action_id: UUID) -> bool:
    """Take the action's lock, which whoever has just queued it, or looks whether it runs, gives back in a moment."""
    for number in range(_LOCK_TRIES):
        if services.backend.claim(connection, action_id):
            return True
        time.sleep(_LOCK_PAUSE_S * min(number + 1, 10))
    return False


def _call(services: Services, connection: Connection, run: Run, overrides: Mapping[str, Any]) -> QueuedCall | None:
    """The call that a claim stands for, if it still stands; under the lock."""
    now = services.runs.get(run.action_id, connection)
    if now is None or (now.worker, now.attempts) != (run.worker, run.attempts):
        return None  # taken back meanwhile, since this process was as slow as a dead one
    submitted = services.journal.get(run.action_id, connection)
    if submitted is None or submitted.kind == "outcome":
        _forget_settled(services, connection, run.action_id)
        return None
    try:
        return QueuedCall.again(services, submitted, overrides)
    except ForAnotherWorker as why:
        pause = services.runs.leave_to_others(run, str(why), connection, carried=services.broker.carries)
        if pause is not None:
            log.warning("%s is left to another worker for %.0f s, action %s: %s", run.action, pause, run.action_id, why)
        return None


def _forget_settled(services: Services, connection: Connection, action_id: UUID) -> None:
    """Remove the row of an action that has its outcome, which whoever wrote that could not."""
    record = services.journal.get(action_id, connection)
    if record is not None and record.kind == "outcome":
        for statement in services.runs.deleting(action_id, unique=True):
            services.backend.run_alone(connection, statement)


def _release(services: Services, connection: Connection, action_id: UUID) -> None:
    if connection.invalidated:
        return
    try:
        services.backend.release(connection, action_id)
    except Exception as error:
        log.debug("the lock of action %s goes with its connection: %s", action_id, error)
        connection.invalidate()


def _wake_next(services: Services, connection: Connection, run: Run) -> None:
    """The end of one that kept others waiting: they may begin, and nobody would tell a worker so by itself."""
    if not is_usable(connection) or not (run.concurrency_key or services.claims.is_limited(run.queue)):
        return
    try:
        queue = services.claims.waiting_for(run, connection)
    except Exception as error:
        log.debug("who waited for action %s is found by the dispatcher: %s", run.action_id, error)
        return
    if queue is not None:
        publish(services, Message(run.action_id, run.action, queue), connection)


def _try_later(services: Services, run: Run, unfinished: AttemptUnfinished, connection: Connection | None) -> None:
    """Hand back what did not finish; a second time, it does nothing."""
    doubled = min(FIRST_PAUSE_S * 2 ** min(run.attempts - 1, 32), LONGEST_PAUSE_S)
    pause = doubled if unfinished.pause is None else unfinished.pause
    pause = 0.0 if _end_of_process(unfinished) else pause
    try:
        if services.runs.hand_back(run, pause, str(unfinished), connection):
            log.warning("%s is tried again in %.1f s, action %s: %s", run.action, pause, run.action_id, unfinished)
    except Exception as error:
        # The database is away: whoever looks for claims without a lock finds it.
        log.warning("the run of action %s could not be handed back: %s", run.action_id, error)


def _end_of_process(unfinished: AttemptUnfinished) -> BaseException | None:
    """What asked this process to end, if that is why an attempt did not finish."""
    cause = unfinished.__cause__
    return cause if cause is not None and not isinstance(cause, Exception) else None


def take_back_stale(services: Services) -> list[UUID]:
    """Hand back what was claimed by workers that are dead, as its free lock tells; which that was.

    Under the lock, so that a worker which was only slow to take it finds out, in `_call`, that its claim is gone.
    """
    found = []
    for run in services.runs.running(STALE_S):
        with services.backend.connection() as connection:
            if not services.backend.claim(connection, run.action_id):
                continue
            if services.runs.hand_back(run, 0.0, "its worker ended before it had an outcome", connection):
                log.warning(
                    "%s is begun again: its worker %s is gone, action %s", run.action, run.worker, run.action_id
                )
                found.append(run.action_id)
            services.backend.release(connection, run.action_id)
    return found


def take_back(services: Services, worker: str) -> None:
    """Hand back what a worker had whose process was ended before it came to an end; that costs no attempt.

    What cannot be handed back here is taken back by whoever finds it, as that of any dead worker.
    """
    for run in services.runs.running(0.0):
        if run.worker != worker:
            continue
        with services.backend.connection() as connection:
            if not _locked(services, connection, run.action_id):
                continue
            services.runs.hand_back(run, 0.0, "its worker was told to end, and it did not", connection, begun=False)
            services.backend.release(connection, run.action_id)


def settle_cancelled(services: Services, run: Run) -> bool:
    """Give a cancelled action that no worker has its outcome; whether it has it by this."""
    with services.backend.connection() as connection:
        if not _locked(services, connection, run.action_id):
            return False
        now = services.runs.get(run.action_id, connection)
        submitted = services.journal.get(run.action_id, connection)
        if now is None or now.worker is not None or submitted is None or submitted.kind == "outcome":
            services.backend.release(connection, run.action_id)
            return False
        message = f"cancelled before it came to an end, by the action {now.cancelled_by}"
        release = services.application.release
        row = row_without_run(submitted, release, "failed", ActionCancelled, message)
        also = services.runs.deleting(run.action_id, unique=True)
        position = services.backend.append_alone(connection, row, also)
        _wake_next(services, connection, now)
        return position is not None
