"""What operators decide about feeding: that a projection or a subscription pauses, and where a subscription goes on.

A decision is an action in the journal, with a permission; in its transaction it is also noted where whoever feeds
looks: a row of `actionbus_pauses`, or the position in the ledger. So it survives restarts and rebuilds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Connection, Double, Table, Text, delete, insert, select, text
from sqlalchemy.orm import Session

from actionbus.core import Bus, Outcome
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.storage.pooling import ACTING
from actionbus.core.storage.shared import shared_table
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.stops import projection_stops

ACTIONS: Final = ("actionbus.projections.actions",)
"""Packages of the actions of operators, which come with whatever is fed."""
_LOOK_S: Final = 1.0
"""Seconds between two looks at what is paused, for all that a process feeds."""


class Pause(NamedTuple):
    """Somebody decided that a projection or a subscription is not to be fed for now."""

    name: str
    paused_by: str | None
    paused_at: float
    """Seconds since 1970."""
    reason: str | None

    @property
    def told(self) -> str:
        """Who, when and why, in words."""
        since = datetime.fromtimestamp(self.paused_at, UTC).isoformat(timespec="seconds")
        why = f": {self.reason}" if self.reason else ""
        return f"paused by {self.paused_by or 'an operator who gave no name'} at {since}{why}"


@cache
def _pauses_table(schema: str | None) -> Table:
    columns = (Column(name, Double if name == "paused_at" else Text) for name in Pause._fields)
    return shared_table("actionbus_pauses", schema, *columns)


class Pauses:
    """Reads and writes the pauses of one database; thread-safe."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._table = _pauses_table(backend.schema)
        self._guard = threading.Lock()
        self._known: dict[str, Pause] = {}
        self._looked = 0.0

    def all(self) -> dict[str, Pause]:
        """All there are, by name."""
        found = self._backend.read(lambda connection: connection.execute(select(*self._table.c)).all())
        return {row.name: Pause(*tuple(row)) for row in found}

    def lately(self, name: str) -> Pause | None:
        """That of a name, as of a moment ago: for whoever feeds to ask again and again."""
        with self._guard:
            if time.monotonic() - self._looked > _LOOK_S:
                self._known, self._looked = self.all(), time.monotonic()
            return self._known.get(name)

    def put(self, connection: Connection, pause: Pause) -> None:
        """Note one, on the connection of an action."""
        self.remove(connection, pause.name)
        with self._backend.placed(connection):
            connection.execute(insert(self._table).values(pause._asdict()))

    def remove(self, connection: Connection, name: str) -> bool:
        """End one, on the connection of an action; whether there was one."""
        with self._backend.placed(connection):
            return connection.execute(delete(self._table).where(self._table.c.name == name)).rowcount > 0


class Feeding:
    """What an operator's action does to feeding, inside its transaction."""

    def __init__(self, session: Session) -> None:
        self._connection = session.connection()
        self._backend: Backend = self._connection.info[ACTING].backend
        self._pauses, self._ledger = Pauses(self._backend), Ledger(self._backend)

    def pause(self, pause: Pause) -> None:
        """From the commit on it is not fed, wherever, within seconds."""
        self._pauses.put(self._connection, pause)

    def resume(self, name: str) -> bool:
        """End that; whether it was paused."""
        return self._pauses.remove(self._connection, name)

    def rows(self, name: str) -> list[Checkpoint]:
        """The rows of the ledger that are named so."""
        return self._ledger.checkpoints_on(self._connection, name)

    def last(self) -> int:
        """The journal's last position, as the action sees it."""
        query = text(f"SELECT max(position) FROM {in_text(self._backend.journal_name)}")
        return int(self._connection.execute(query).scalar_one())

    def move(self, index: str, position: int) -> None:
        """Let a subscription go on beyond a position, whoever hands over now."""
        self._ledger.move_on(self._connection, index, position)


def pause(bus: Bus, name: str, actor: str | None, reason: str) -> Outcome:
    """Decide that something is not fed."""
    return bus.runner(actor, operator=True).execute("pause_feeding", {"name": name, "reason": reason})


def resume(bus: Bus, name: str, actor: str | None) -> Outcome:
    """Decide that it goes on. Raises InvalidArguments if it is not paused."""
    return bus.runner(actor, operator=True).execute("resume_feeding", {"name": name})


def feeding(session: Session) -> Feeding:
    """Provider of `feeding`."""
    return Feeding(session)


def providers() -> Mapping[str, Any]:
    """What the actions of operators require."""
    return {"projection_stops": projection_stops, "feeding": feeding}
