"""Queue, the small interface to a broker; `adapters.celery` answers. A Bus has one for `execute_async`.

A message is only a hint that an action is due: what is to be done stands in the journal, and whether it still is to be
done in `storage.runs`. So a broker may lose, repeat and reorder messages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple
from uuid import UUID

DEFAULT_QUEUE = "actions"
"""The queue of actions whose handler names none."""


class Message(NamedTuple):
    """What is sent for a queued action: its id, to its queue. A worker finds the rest in the journal."""

    action_id: UUID
    action: str
    """For the log here. A broker need not know it."""
    queue: str


class BrokerUnavailable(Exception):
    """The broker did not take the message. The action stays queued, and is published again later."""


class Queue(ABC):
    """Where messages for workers go. Thread-safe.

    `redeliver_after` is how many seconds a message may be on its way before it is taken for lost and sent again, which
    doubles with every time; `attempts` is how often an action is begun before it is given up.
    """

    redeliver_after: float = 60.0
    attempts: int = 10

    @abstractmethod
    def publish(self, message: Message) -> None:
        """Send it, or raise BrokerUnavailable within a few seconds."""
