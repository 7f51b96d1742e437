"""Recovery: gives actions whose process died the outcome `interrupted`. Called by `bus.recover`.

Safe at any time beside live traffic: an action that still runs holds its lock, and is skipped. Should an outcome
arrive in between all the same, the constraint on one outcome per action decides, and nothing is overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from actionbus.core.errors import ActionInterrupted
from actionbus.core.journal import Journal
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.rows import Row
from actionbus.core.storage.runs import Runs
from actionbus.core.values import payload
from actionbus.core.values.determinism import now
from actionbus.core.values.record import Record
from actionbus.core.values.tagged import class_name

_MESSAGE: Final = (
    "the process that ran the action ended before its outcome was written: nothing of it took effect in the database; "
    "calls to the outside may have been made, and are not on record"
)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery did: the actions it settled, those it found running, those settled by others meanwhile.

    `queued` are left alone: a worker will come. To `requeued` a message was sent, since none was picked up yet.
    `too_young` have no outcome, but were submitted so lately that nobody looked whether they still run.
    """

    interrupted: list[UUID]
    running: list[UUID]
    settled_meanwhile: list[UUID]
    queued: list[UUID]
    requeued: list[UUID]
    too_young: list[UUID]


def recover(backend: Backend, journal: Journal, runs: Runs, older_than: timedelta, release: str | None) -> Recovered:
    """Settle actions submitted longer than `older_than` ago that have no outcome, run nowhere and are not queued."""
    found = Recovered([], [], [], [], [], [])
    before = now() - older_than
    for record in journal.unfinished():
        with backend.connection() as connection:
            if record.recorded_at >= before:
                # Its lock is left alone: taken even for a moment, it would turn away the worker who comes for it.
                if runs.get(record.action_id, connection) is None:
                    found.too_young.append(record.action_id)
                continue
            if not backend.claim(connection, record.action_id):
                found.running.append(record.action_id)
                continue
            # Asked under the lock, which whoever queues an action gives back only after it has its row.
            if runs.get(record.action_id, connection) is not None:
                backend.release(connection, record.action_id)
                found.queued.append(record.action_id)
                continue
            position = backend.append_alone(connection, _interrupted(record, release))
        (found.settled_meanwhile if position is None else found.interrupted).append(record.action_id)
    return found


def _interrupted(record: Record, release: str | None) -> Row:
    return Row(
        action_id=record.action_id,
        kind="outcome",
        status="interrupted",
        action=record.action,
        handler_version=record.handler_version,
        actor=record.actor,
        correlation_id=record.correlation_id,
        cause_id=record.cause_id,
        release=release,
        error=payload.dumps({"type": class_name(ActionInterrupted), "message": _MESSAGE}),
        seen=record.seen,
    )
