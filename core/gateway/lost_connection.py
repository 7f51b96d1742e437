"""Writes the outcome of an action whose database was lost under it; called by `gateway.call`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection

from actionbus.core.errors import OutcomeUnknown
from actionbus.core.gateway.services import Services
from actionbus.core.storage.rows import Row, Statement
from actionbus.core.values.backoff import growing


def append_after_loss(services: Services, submitted: Row, outcome: Row, also: Sequence[Statement] = ()) -> int | None:
    """Append an outcome once a lost database is back. Raises OutcomeUnknown if it stays away.

    If the old backend has inserted its own outcome and not ended yet, the unique constraint makes this wait for
    it; if it has not inserted it yet, it never can any more. Either way the doubt is over. A crash of the server
    may have taken back the submitted record, whose fsync rides on the outcome's: then it is appended again.
    """
    give_up = time.monotonic() + services.reconnect_for
    pauses = growing(0.05, 1.0)
    services.backend.renew_pool()
    while True:
        try:
            with services.backend.connection() as fresh:
                return _append_both(services, fresh, submitted, outcome, also)
        except Exception as error:
            pause = next(pauses)
            if time.monotonic() + pause > give_up:
                raise OutcomeUnknown("the database has not come back") from error
            time.sleep(pause)


def _append_both(
    services: Services, connection: Connection, submitted: Row, outcome: Row, also: Sequence[Statement]
) -> int | None:
    try:
        appended = services.backend.append_submitted(connection, submitted, durable=False)
        if appended is None and services.journal.get(submitted.action_id, connection) is None:
            # Another call took the idempotency key since the crash; this one must not claim it.
            services.backend.append_submitted(connection, submitted._replace(idempotency_key=None), durable=False)
        return services.backend.append_alone(connection, outcome, also)
    except BaseException:
        connection.invalidate()
        raise
