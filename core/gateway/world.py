"""World: how actions reach what lies outside of the database. A sandbox's is `replay.sandbox.playback`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import UUID

from actionbus.core.declare.dependencies import Provider
from actionbus.core.declare.handler import ActionHandler
from actionbus.core.gateway.outside_calls import CallLog, OutsideCall, RecordedDependency
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.values.determinism import Secrets
from actionbus.core.values.limits import Limits


class World:
    """The real one: outside dependencies are made, and their calls recorded."""

    def calls(
        self, action_id: UUID, limits: Limits, scrubber: Scrubber, earlier: deque[OutsideCall], tape: list[OutsideCall]
    ) -> CallLog:
        """The log of one action's outside calls: `earlier` answers those of a retry, `tape` takes those of this try."""
        return CallLog(limits, earlier, tape)

    def reach(self, calls: CallLog, provider: Provider, make: Callable[[], Any]) -> Any:
        """What the handler gets for an `outside` dependency."""
        return RecordedDependency(calls, provider.name, make())

    def replaced(self, calls: CallLog, provider: Provider, given: Any) -> Any:
        """What the handler gets for an `outside` dependency that the runner's `overrides` replace."""
        return RecordedDependency(calls, provider.name, given)

    def secrets(self, remember: Callable[[object], None]) -> Secrets:
        """The `secrets` dependency."""
        return Secrets(remember)

    def run(self, handler: ActionHandler) -> Any:
        """Call the handler."""
        return handler.execute()
