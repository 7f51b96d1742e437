"""What tests of queued actions share: a broker in memory, and time that passes at once."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import OperationalError

from actionbus import BrokerUnavailable, Bus, Message
from actionbus.testing import HeldBroker
from tests.helpers import let_time_pass


class Broker(HeldBroker):
    """Keeps messages until somebody looks; may be away."""

    redeliver_after = 60.0
    attempts = 3
    away = False

    def publish(self, message: Message) -> None:
        """Keep it, or refuse it."""
        if self.away:
            raise BrokerUnavailable("the broker is away")
        super().publish(message)


def time_passes(bus: Bus) -> None:
    """Whatever waits for its time is due, as it would be in an hour."""
    let_time_pass(bus, 3600)


def lost_database(handler: Any) -> None:
    """The error that SQLAlchemy raises when the connection is gone."""
    error = OperationalError("SELECT 1", {}, Exception("server closed the connection"))
    error.connection_invalidated = True
    raise error
