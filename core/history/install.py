"""The door of capturing: puts triggers on tables, says how far each is recorded. Used by the bus and the commands."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from actionbus.core.history.databases import database_of
from actionbus.core.history.shapes import Shape, Standing, TableStatus, TableWanted
from actionbus.core.storage.backend import Backend


def install(
    backend: Backend, connection: Connection, wanted: Sequence[TableWanted], *, baseline: bool = False
) -> list[str]:
    """Record all changes of these tables' rows from now on; the tables for which something had to be done, by name.

    A table that holds rows and has no history begins with a baseline, a copy of its rows; so does every one with
    `baseline=True`. One whose columns have changed gets a new shape. Nothing is done where the triggers fit. It runs in
    the connection's transaction, which the caller commits; meanwhile nobody else writes these tables.

    Raises ConfigurationError for what cannot be recorded, JournalUnavailable where writers do not make room.
    """
    database = database_of(connection)
    home = database.looks.home_of(connection, backend.schema)
    return database.installs.install(connection, home, wanted, baseline=baseline)


def remove(backend: Backend, connection: Connection, wanted: Sequence[TableWanted]) -> list[str]:
    """Record these tables no more; those that were, by name. What was recorded stays. Else as `install`."""
    database = database_of(connection)
    return database.installs.remove(connection, database.looks.home_of(connection, backend.schema), wanted)


def status(backend: Backend, connection: Connection, wanted: Sequence[TableWanted] | None = None) -> list[TableStatus]:
    """How far each of these tables is recorded, in their order; without them all that have a history, by name."""
    return _status(backend, connection, [wanted])


def status_of_all(backend: Backend, connection: Connection, wanted: Sequence[TableWanted]) -> list[TableStatus]:
    """The same of these tables, and then of all others that have a history."""
    return _status(backend, connection, [wanted, None])


def _status(
    backend: Backend, connection: Connection, asked: Sequence[Sequence[TableWanted] | None]
) -> list[TableStatus]:
    database = database_of(connection)
    home = database.looks.home_of(connection, backend.schema)
    shapes = database.shapes(connection, home)
    sizes = database.looks.sizes(connection, home, shapes)
    found: dict[str, Standing] = {}
    for wanted in asked:
        for each in database.looks.standings(connection, home, shapes, wanted):
            found.setdefault(each.table_name, each)
    return [_told(each, shapes, *sizes.get(each.table_name, (0, 0))) for each in found.values()]


def _told(standing: Standing, shapes: Sequence[Shape], images: int, size: int) -> TableStatus:
    begun = [each for each in shapes if each.table_name == standing.table_name and each.is_baseline]
    since, since_image = (begun[-1].since, begun[-1].since_image) if begun else (None, None)
    columns = standing.shape.columns if standing.shape else ()
    return TableStatus(
        standing.table_name, since, since_image, standing.problems, standing.withheld, columns, images, size
    )
