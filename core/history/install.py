"""The door of capturing: puts triggers on tables, and says how far each is recorded. Used by the bus and the commands.

What differs between the databases is in `history.postgresql` and `history.sqlite`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from sqlalchemy import Connection

from actionbus.core.history import postgresql, sqlite
from actionbus.core.history.shapes import TableStatus, TableWanted
from actionbus.core.storage.backend import Backend


class Captures(Protocol):
    """What a database's module does."""

    def install(
        self, backend: Backend, connection: Connection, wanted: Sequence[TableWanted], *, baseline: bool
    ) -> list[str]:
        """See `install`."""

    def status(
        self, backend: Backend, connection: Connection, wanted: Sequence[TableWanted] | None
    ) -> list[TableStatus]:
        """See `status`."""


_BY_DIALECT: Final[dict[str, Captures]] = {"postgresql": postgresql, "sqlite": sqlite}


def install(
    backend: Backend, connection: Connection, wanted: Sequence[TableWanted], *, baseline: bool = False
) -> list[str]:
    """Record all changes of these tables' rows from now on; the tables for which something had to be done, by name.

    A table that holds rows and has no history begins with a baseline, a copy of its rows; so does every one with
    `baseline=True`. One whose columns have changed gets a new shape. Nothing is done where the triggers fit. It runs in
    the connection's transaction, which the caller commits; meanwhile nobody else writes these tables.

    Raises ConfigurationError for what cannot be recorded, JournalUnavailable where writers do not make room.
    """
    return _BY_DIALECT[connection.dialect.name].install(backend, connection, wanted, baseline=baseline)


def status(backend: Backend, connection: Connection, wanted: Sequence[TableWanted] | None = None) -> list[TableStatus]:
    """How far each of these tables is recorded, in their order; without them all that have a history, by name."""
    return _BY_DIALECT[connection.dialect.name].status(backend, connection, wanted)
