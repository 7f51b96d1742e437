"""HeldBroker, a broker in memory for tests: keeps messages until the test lets them be run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actionbus.core import Broker, Bus, Message, Outcome


class HeldBroker(Broker):
    """Put it on a Bus as `broker=`."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        """Keep the message until somebody takes it."""
        self.messages.append(message)

    def run(self, bus: Bus, fakes: Mapping[str, Any] | None = None) -> list[Outcome]:
        """Run all that is due, and what that queues in turn; the outcomes. Raises what an action raises.

        `fakes` stand in for dependencies by their name.
        """
        outcomes: list[Outcome] = []
        while self.messages:
            outcome = bus.run_queued(self.messages.pop(0).action_id, "test", overrides=fakes)
            outcomes += [outcome] if outcome else []
        return outcomes
