"""Outcomes of what was run: the row of a failure, and what a caller gets of a row. Used by whoever runs a handler."""

from __future__ import annotations

import logging
from datetime import datetime

from actionbus.core.gateway.execution import Execution
from actionbus.core.gateway.failures import describe_error, undescribed
from actionbus.core.gateway.identity import Identity
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload
from actionbus.core.values.record import Outcome, Status

log = logging.getLogger("actionbus")


def row_of_failure(
    execution: Execution | None,
    identity: Identity,
    name: str,
    status: Status,
    error: BaseException,
    scrubber: Scrubber,
    started_at: datetime,
    seen: str | None = None,
) -> Row:
    """The outcome's row of what was raised; where that cannot be described, one that tells its type alone."""
    try:
        if execution:
            return execution.outcome(status, None, error)
        told = describe_error(error, scrubber)
    except Exception as why:
        log.warning("the %s that %s raised cannot be described: %s", type(error).__name__, name, type(why).__name__)
        told = undescribed(error, why)
    return identity.outcome(name, status, started_at=started_at, error=told, seen=seen)


def outcome_of(row: Row, position: int) -> Outcome:
    """The caller's Outcome of a row just written, which is one."""
    assert row.status is not None
    return Outcome(
        action_id=row.action_id,
        action=row.action,
        status=row.status,
        result=payload.loads(row.result) if row.result is not None else None,
        position=position,
        error=payload.loads(row.error) if row.error else None,
    )
