"""Identity: what a record says of an action besides its arguments. Made by calls, nested calls and the sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from actionbus.core.declare.middleware import ActionCall
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.backend import Row
from actionbus.core.values import payload
from actionbus.core.values.caller import Caller


@dataclass(slots=True)
class Identity:
    """What a record says of an action besides its arguments; the same for its submitted record and its outcome."""

    action_id: UUID
    seed: str
    caller: Caller
    correlation_id: str
    cause_id: UUID | None
    release: str | None

    def call(self, name: str, mode: str) -> ActionCall:
        """The call as middleware sees it."""
        caller = self.caller
        return ActionCall(
            name, self.action_id, caller.actor, self.correlation_id, self.cause_id, caller.context(), mode
        )

    def submitted(self, name: str, version: int | None, key: str | None, arguments: str, scrubber: Scrubber) -> Row:
        """The submitted record's row."""
        caller = self.caller
        context = payload.dumps(scrubber.arguments(caller.context())) if scrubber else caller.context_text
        return Row(
            self.action_id, "submitted", None, name, version, caller.actor, self.correlation_id, self.cause_id, key,
            None, self.release, context, arguments, None, None, None, None, self.seed, None, None,
        )  # fmt: skip

    def outcome(
        self,
        name: str,
        status: str,
        *,
        version: int | None = None,
        started_at: datetime | None = None,
        arguments: str | None = None,
        result: str | None = None,
        error: dict[str, Any] | None = None,
        calls: str | None = None,
        touched: str | None = None,
        seen: str | None = None,
        duration_us: int | None = None,
    ) -> Row:
        """The outcome's row."""
        told = payload.dumps(error) if error else None
        return Row(
            self.action_id, "outcome", status, name, version, self.caller.actor, self.correlation_id, self.cause_id,
            None, started_at, self.release, None, arguments, result, told, calls, touched, None, seen, duration_us,
        )  # fmt: skip
