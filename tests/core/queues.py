"""What tests of queued actions share: a broker in memory, and time that passes at once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from core import BrokerUnavailable, Bus, Message, Queue


class Held(Queue):
    """Keeps messages until somebody looks."""

    redeliver_after = 60.0
    attempts = 3

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.away = False

    def publish(self, message: Message) -> None:
        if self.away:
            raise BrokerUnavailable("the broker is away")
        self.sent.append(message)


def time_passes(bus: Bus) -> None:
    """Whatever waits for its time is due, as it would be in an hour."""
    with bus.engine.begin() as connection:
        moved = "due_at = due_at - 3600, publish_at = publish_at - 3600, queued_at = queued_at - 3600"
        connection.execute(text(f"UPDATE actionbus_runs SET {moved}"))


def lost_database(handler: Any) -> None:
    """The error that SQLAlchemy raises when the connection is gone."""
    error = OperationalError("SELECT 1", {}, Exception("server closed the connection"))
    error.connection_invalidated = True
    raise error
