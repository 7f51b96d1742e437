"""Identity: what a record says of an action besides its arguments. Made by calls, nested calls and the sandbox."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Self
from uuid import UUID

from actionbus.core.declare.middleware import ActionCall
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload
from actionbus.core.values.caller import Caller
from actionbus.core.values.details import ErrorDetails
from actionbus.core.values.determinism import new_action_id, new_seed
from actionbus.core.values.record import Status


class Identity(NamedTuple):
    """What a record says of an action besides its arguments; the same for its submitted record and its outcome."""

    action_id: UUID
    seed: str
    caller: Caller
    correlation_id: str
    cause_id: UUID | None
    release: str | None

    @classmethod
    def new(
        cls, caller: Caller, release: str | None, *, action_id: UUID | None = None, cause: UUID | None = None
    ) -> Self:
        """Of an action that nobody caused but its caller, or the action `cause`; with a new id if none is given."""
        own = action_id or new_action_id()
        return cls(own, new_seed(), caller, caller.correlation_id or str(own), cause, release)

    def call(self, name: str, mode: str) -> ActionCall:
        """The call as middleware sees it."""
        caller = self.caller
        return ActionCall(
            name, self.action_id, caller.actor, self.correlation_id, self.cause_id, caller.context(), mode
        )

    def submitted(self, name: str, version: int | None, key: str | None, arguments: str, scrubber: Scrubber) -> Row:
        """The submitted record's row."""
        caller = self.caller
        return Row(
            action_id=self.action_id,
            kind="submitted",
            action=name,
            handler_version=version,
            actor=caller.actor,
            correlation_id=self.correlation_id,
            cause_id=self.cause_id,
            idempotency_key=key,
            release=self.release,
            context=payload.dumps(scrubber.arguments(caller.context())) if scrubber else caller.context_text,
            arguments=arguments,
            seed=self.seed,
        )

    def outcome(
        self,
        name: str,
        status: Status,
        *,
        version: int | None = None,
        started_at: datetime | None = None,
        arguments: str | None = None,
        result: str | None = None,
        error: ErrorDetails | None = None,
        calls: str | None = None,
        seen: str | None = None,
        duration_us: int | None = None,
    ) -> Row:
        """The outcome's row."""
        return Row(
            action_id=self.action_id,
            kind="outcome",
            status=status,
            action=name,
            handler_version=version,
            actor=self.caller.actor,
            correlation_id=self.correlation_id,
            cause_id=self.cause_id,
            started_at=started_at,
            release=self.release,
            arguments=arguments,
            result=result,
            error=payload.dumps(error) if error else None,
            calls=calls,
            seen=seen,
            duration_us=duration_us,
        )
