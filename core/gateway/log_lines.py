"""What the log says of an action, as a line and as fields. For the calls of `gateway` and `queueing`.

Whether anybody listens is asked first: a line costs more than a step of the gateway.
"""

from __future__ import annotations

import logging
from typing import Any

from actionbus.core.gateway.identity import Identity
from actionbus.core.storage.rows import Row

log = logging.getLogger("actionbus")


def log_submitted(name: str, identity: Identity) -> None:
    """That an action's submitted record is in the journal."""
    if log.isEnabledFor(logging.INFO):
        log.info("%s submitted, action %s", name, identity.action_id, extra=_fields(name, identity))


def log_queued(name: str, identity: Identity, queue: str) -> None:
    """That an action waits for a worker."""
    if log.isEnabledFor(logging.INFO):
        extra = _fields(name, identity) | {"queue": queue}
        log.info("%s queued, action %s", name, identity.action_id, extra=extra)


def log_outcome(name: str, identity: Identity, row: Row, position: int) -> None:
    """What came of an action, and how long it took in milliseconds."""
    if log.isEnabledFor(logging.INFO):
        more = {"status": row.status, "position": position, "duration_us": row.duration_us}
        taken, told = (row.duration_us or 0) / 1000, "%s %s in %.1f ms, action %s, position %d"
        extra = _fields(name, identity) | more
        log.info(told, row.action, row.status, taken, row.action_id, position, extra=extra)


def _fields(name: str, identity: Identity) -> dict[str, Any]:
    return {
        "action": name,
        "action_id": str(identity.action_id),
        "actor": identity.caller.actor,
        "correlation_id": identity.correlation_id,
    }
