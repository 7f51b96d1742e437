"""Recovery: gives actions whose process died the outcome `interrupted`. Called by `bus.recover`.

Safe at any time beside live traffic: an action that still runs holds its lock, and is skipped. Should an outcome
arrive in between all the same, the constraint on one outcome per action decides, and nothing is overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from actionbus.core.declare.registry import Action
from actionbus.core.errors import ActionBusError, ActionInterrupted
from actionbus.core.gateway.services import Services
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload
from actionbus.core.values.determinism import now
from actionbus.core.values.record import Record, Status
from actionbus.core.values.tagged import class_name

_MESSAGE: Final = (
    "the process that ran the action ended before its outcome was written: nothing of it took effect in the database; "
)


@dataclass(frozen=True, slots=True)
class RecoveryReport:
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


def recover(services: Services, older_than: timedelta) -> RecoveryReport:
    """Settle actions submitted longer than `older_than` ago that have no outcome, run nowhere and are not queued."""
    backend, journal, runs = services.backend, services.journal, services.runs
    found = RecoveryReport([], [], [], [], [], [])
    before = now() - older_than
    waiting = runs.waiting()  # at once, since there may be many, and workers look every minute
    for record in journal.unfinished():
        if record.action_id in waiting:
            if record.recorded_at < before:
                found.queued.append(record.action_id)
            continue
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
            message = _MESSAGE + _outside_of(services.registry.find(record.action))
            row = row_without_run(record, services.application.release, "interrupted", ActionInterrupted, message)
            position = backend.append_alone(connection, row)
        (found.settled_meanwhile if position is None else found.interrupted).append(record.action_id)
    return found


def _outside_of(action: Action | None) -> str:
    """What an action may have done that no rollback takes back, as far as its declaration tells."""
    if action is None:
        return "calls to the outside may have been made, and are not on record"
    names = [step.name for step in action.plan.steps if step.nature == "outside"]
    told = f"it may have called {', '.join(names)}, of which nothing is on record" if names else ""
    if "runner" in action.plan.built_in:
        told += ", and so may actions that it ran" if told else "actions that it ran may have called outside"
    return told or "it declares nothing that reaches outside"


def row_without_run(
    record: Record, release: str | None, status: Status, kind: type[ActionBusError], message: str
) -> Row:
    """The outcome of an action that nobody runs, or will."""
    return Row(
        action_id=record.action_id,
        kind="outcome",
        status=status,
        action=record.action,
        handler_version=record.handler_version,
        actor=record.actor,
        correlation_id=record.correlation_id,
        cause_id=record.cause_id,
        release=release,
        error=payload.dumps({"type": class_name(kind), "message": message}),
        seen=record.seen,
    )
