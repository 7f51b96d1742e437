"""Broker, the small interface to what wakes workers; `adapters.celery` and `queueing.own` answer. A Bus has one.

A message is only a hint that an action is due: what is to be done stands in the journal, and whether it still is to be
done in `storage.runs`. So a broker may lose, repeat and reorder messages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple
from uuid import UUID

from actionbus.core.values.public import public


@public
class Message(NamedTuple):
    """What is sent for a queued action: its id, to its queue. A worker finds the rest in the journal."""

    action_id: UUID
    action: str
    """For the log here. A broker need not know it."""
    queue: str


@public
class Broker(ABC):
    """What wakes workers. Thread-safe.

    `redeliver_after` is how many seconds a message may be on its way before it is taken for lost and sent again, which
    doubles with every time; `attempts` is how often an action is begun before it is given up, unless its handler says.
    """

    redeliver_after: float = 60.0
    attempts: int = 10
    carries = True
    """Whether workers wait for its messages, so that one is sent for each run when it is due."""
    reserves = True
    """Whether what is queued keeps others like it from being queued, as `Unique` says."""

    @abstractmethod
    def publish(self, message: Message) -> None:
        """Send it, or raise BrokerUnavailable within a few seconds."""

    def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of what it holds; called when the bus is closed."""
