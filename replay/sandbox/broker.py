"""SandboxBroker: what handlers queue while they are replayed goes nowhere. Used by the sandbox."""

from __future__ import annotations

from actionbus.core.declare.broker import Broker, Message


class SandboxBroker(Broker):
    """Lets handlers queue actions, which are compared with history; nothing is sent, and nothing kept from it."""

    reserves = False

    def publish(self, message: Message) -> None:
        """Send nothing: a sandbox has no workers."""
