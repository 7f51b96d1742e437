"""HeldQueue, a broker in memory for tests: keeps messages until the test lets them be run."""

from __future__ import annotations

from actionbus.core import Bus, Message, Outcome, Queue


class HeldQueue(Queue):
    """Put it on a Bus as `queue=`."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        """Keep it."""
        self.messages.append(message)

    def run(self, bus: Bus) -> list[Outcome]:
        """Run all that is due, and what that queues in turn; the outcomes. Raises what an action raises."""
        outcomes: list[Outcome] = []
        while self.messages:
            outcome = bus.run_queued(self.messages.pop(0).action_id, "test")
            outcomes += [outcome] if outcome else []
        return outcomes
