"""Lookout: says in the log, once, when a Bus is first used, which tables are not recorded as they should be.

Asked by `gateway.call`, on the connection that an action has already; it waits for nobody and raises nothing.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection

from actionbus.core.errors import ConfigurationError
from actionbus.core.history.databases import database_of
from actionbus.core.history.shapes import Standing, TableWanted
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.drivers import driver_error

log = logging.getLogger("actionbus")
MENDING: Final = "`actionbus db upgrade --models`, or bus.create(), mends it"


class Lookout:
    """Looks once for one Bus."""

    def __init__(self, backend: Backend, wanted: Callable[[], Sequence[TableWanted]]) -> None:
        self._backend = backend
        self._wanted = wanted
        self._turns = deque([True])  # of many threads one gets it

    def look_once(self, connection: Connection) -> None:
        """Warn, if nobody has looked yet. The connection is outside of any transaction."""
        if not self._turns:
            return
        try:
            self._turns.pop()
        except IndexError:
            return
        try:
            self._warn(unrecorded(self._backend, connection, self._wanted()))
        except Exception as error:
            log.warning("whether changes of rows are recorded could not be found out: %s", brief(error))

    def unrecorded(self, connection: Connection) -> tuple[str, ...]:
        """The names of tables that are not recorded as they should be. The connection is outside of any transaction."""
        return tuple(each.table_name for each in unrecorded(self._backend, connection, self._wanted()))

    def _warn(self, standings: Sequence[Standing]) -> None:
        if standings:
            names = ", ".join(each.table_name for each in standings)
            why = "; ".join(problem for each in standings for problem in each.problems)
            log.warning("not all changes of rows are recorded, of %s: %s (%s)", names, why, MENDING)


def unrecorded(backend: Backend, connection: Connection, wanted: Sequence[TableWanted]) -> list[Standing]:
    """Of these tables those that are there and not recorded as they should be. The gateway's connection is at rest."""
    if not wanted:
        return []
    database = database_of(connection)
    try:
        with database.looks.glancing(connection):
            home = database.looks.home_of(connection, backend.home)
            shapes = database.shapes(connection, home)
            found = database.looks.standings(connection, home, shapes, wanted)
    finally:
        if connection.in_transaction():
            connection.rollback()  # what SQLAlchemy takes for a transaction
    return [each for each in found if each.problems and each.is_there]


def brief(error: Exception) -> str:
    """An error in a line."""
    if isinstance(error, ConfigurationError):
        return "; ".join(error.problems)
    told = str(driver_error(error)).splitlines()
    return told[0] if told else type(error).__name__
