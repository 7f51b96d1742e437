"""Outcomes of what was run: the row of a failure, and what a caller gets of a success. For whoever runs a handler."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from actionbus.core.gateway.execution import Execution
from actionbus.core.gateway.failures import describe_error, status_of, undescribed
from actionbus.core.gateway.identity import Identity
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload
from actionbus.core.values.record import Outcome

log = logging.getLogger("actionbus")


def row_of_failure(
    execution: Execution | None,
    identity: Identity,
    name: str,
    error: BaseException,
    scrubber: Scrubber,
    started_at: datetime,
    seen: str | None = None,
) -> Row:
    """The outcome's row of what was raised; where that cannot be described, one that tells its type alone."""
    status = status_of(error)
    try:
        if execution:
            return execution.outcome(status, None, error)
        told = describe_error(error, scrubber)
    except Exception as why:
        log.warning("the %s that %s raised cannot be described: %s", type(error).__name__, name, type(why).__name__)
        told = undescribed(error, why)
    return identity.outcome(name, status, started_at=started_at, error=told, seen=seen)


def outcome_of(row: Row, position: int, result: Any = None) -> Outcome:
    """The caller's Outcome of a row, which is one, and of what its result would be read as."""
    assert row.status is not None
    error = payload.loads(row.error) if row.error else None
    told = result if row.status == "succeeded" else None
    return Outcome(row.action_id, row.action, row.status, told, position, error=error)


def shortened_outcome(identity: Identity, row: Row, error: BaseException, why: Exception) -> Row:
    """An outcome that the database did not take, without what may be too large for it."""
    log.warning("the outcome of action %s is kept without what it tells: %s", row.action_id, type(why).__name__)
    return identity.outcome(
        row.action,
        row.status or "failed",
        version=row.handler_version,
        started_at=row.started_at,
        arguments=row.arguments,
        error=undescribed(error, why),
        seen=row.seen,
        duration_us=row.duration_us,
    )
