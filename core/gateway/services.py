"""Services: what actions are run with. Made once by the Bus, and handed to whatever runs an action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from actionbus.core.declare.application import Application
from actionbus.core.declare.middleware import Chain
from actionbus.core.declare.queue import Queue
from actionbus.core.declare.registry import Registry
from actionbus.core.errors import ConfigurationError
from actionbus.core.history.lookout import Lookout
from actionbus.core.journal import Journal
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.notifier import Announcer
from actionbus.core.storage.runs import Runs


@dataclass(slots=True)
class Services:
    """An application bound to a database."""

    application: Application
    registry: Registry
    engine: Engine
    session_factory: Callable[..., Session]
    backend: Backend
    journal: Journal
    runs: Runs
    announcer: Announcer | None
    """None where no projector listens."""
    middleware: Chain
    queue: Queue | None
    attempts: int
    """How often an action is run before a serialization failure is reported."""
    reconnect_for: float
    """How many seconds a lost database is waited for."""
    lookout: Lookout
    """Warns of tables that are not recorded."""

    def needed_queue(self) -> Queue:
        """The queue. Raises ConfigurationError saying how to have one."""
        if self.queue is None:
            raise ConfigurationError(
                ["there is no queue for execute_async(); give the Bus one: queue=CeleryQueue('redis://localhost') from "
                 "actionbus.celery, which needs pip install 'actionbus[celery]' (on the command line and in Flask: "
                 "ACTIONBUS_BROKER_URL)"]
            )  # fmt: skip
        return self.queue


class HasServices(Protocol):
    """A Bus, for those that the Bus is made of."""

    @property
    def services(self) -> Services:
        """What actions are run with."""
