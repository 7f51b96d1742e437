"""Services: what actions are run with. Made once by the Bus, and handed to whatever runs an action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from actionbus.core.declare.application import Application
from actionbus.core.declare.broker import Broker
from actionbus.core.declare.middleware import Chain
from actionbus.core.declare.registry import Registry
from actionbus.core.history.lookout import Lookout
from actionbus.core.journal import Journal
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.claims import Claims
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
    broker: Broker
    """What wakes workers."""
    claims: Claims
    """What gives them runs."""
    performs_calls: bool
    """Whether who commits an action makes the calls that it postponed, rather than leave them to a worker."""
    attempts: int
    """How often an action is run before a serialization failure is reported."""
    reconnect_for: float
    """How many seconds a lost database is waited for."""
    lookout: Lookout
    """Warns of tables that are not recorded."""


class HasServices(Protocol):
    """A Bus, for those that the Bus is made of."""

    @property
    def services(self) -> Services:
        """What actions are run with."""
