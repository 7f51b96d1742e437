"""Ticket, what `execute_async` gives at once: the way to the outcome of an action that a worker will run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from actionbus.core.errors import ActionFailed, ActionInterrupted, Misuse
from actionbus.core.gateway.services import Services
from actionbus.core.values.backoff import growing
from actionbus.core.values.public import public
from actionbus.core.values.record import Outcome, Record

LONGEST_DELAY_S: Final = 3_000_000_000
"""Of a countdown: 95 years."""


@public
@dataclass(frozen=True, slots=True)
class Ticket:
    """An action that is queued. `repeated` says that its idempotency key was used before."""

    action_id: UUID
    action: str
    due_at: datetime
    repeated: bool = False
    problem: str | None = None
    """Why the broker did not take it yet. It is queued all the same, and sent again later."""
    _services: Services | None = field(default=None, repr=False, compare=False)

    @property
    def state(self) -> str:
        """`queued` before its time, `due` from then on, `running` once a worker has it, `done` with an outcome."""
        services = self._readable()
        run = services.runs.get(self.action_id)
        if run is not None:
            return run.state
        return "queued" if services.journal.outcome(self.action_id) is None else "done"

    def wait(self, timeout: float = 30.0) -> Outcome:
        """The outcome, waited for at most `timeout` seconds.

        Raises TimeoutError; ActionFailed, which carries the outcome, if it is no success; ActionInterrupted if
        recovery settled it. Raises TypeError or ValueError for a timeout that is no number of seconds.
        """
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout must be a number of seconds, not {timeout!r}")
        if timeout != timeout:
            raise ValueError(f"timeout must be a number of seconds, not {timeout!r}")
        services = self._readable()
        deadline, pauses = time.monotonic() + timeout, growing(0.01, 0.5, 1.5)
        while (record := services.journal.outcome(self.action_id)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"the action {self.action_id} is {self.state} after {timeout:g} s; is `actionbus worker` running?"
                )
            time.sleep(min(next(pauses), left))
        return given(record)

    def _readable(self) -> Services:
        if self._services is None:
            raise Misuse(
                "a handler cannot wait for what it queued: it leaves for the broker once the handler's own "
                "transaction is committed; return ticket.action_id and let the caller wait"
            )
        return self._services


def given(record: Record, *, repeated: bool = False) -> Outcome:
    """The outcome of an action that ran before or elsewhere, if it succeeded.

    Raises ActionFailed or ActionInterrupted.
    """
    outcome = Outcome.of(record, repeated=repeated)
    if outcome.status == "succeeded":
        return outcome
    message = outcome.error.get("message", "") if outcome.error else ""
    if outcome.status == "interrupted":
        error: ActionInterrupted | ActionFailed = ActionInterrupted(
            f"the action {record.action_id} was interrupted; see what was done outside before you call again: {message}"
        )
    else:
        error = ActionFailed(f"the action {record.action_id} ended as {outcome.status}: {message}", outcome)
    error.action_id = record.action_id
    raise error


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as an aware time."""
    return datetime.fromtimestamp(seconds, UTC)


def due_at(eta: datetime | None, countdown: float | None) -> float | None:
    """When an action is due, in seconds since 1970; None for at once. Raises ValueError."""
    if eta is not None and countdown is not None:
        raise ValueError("give eta or countdown, not both")
    if countdown is not None:
        is_number = isinstance(countdown, (int, float)) and not isinstance(countdown, bool)
        if not is_number or not 0 <= countdown <= LONGEST_DELAY_S:
            raise ValueError(f"countdown must be 0 to {LONGEST_DELAY_S} seconds, not {countdown!r}")
        return time.time() + countdown
    if eta is None:
        return None
    if not isinstance(eta, datetime):
        raise ValueError(f"a time must be a datetime (naive: UTC), not {eta!r}")
    due = (eta if eta.tzinfo else eta.replace(tzinfo=UTC)).timestamp()
    try:
        moment(due)
    except (ValueError, OverflowError):
        raise ValueError("eta must lie in the years 1 to 9999, in UTC") from None
    return due
