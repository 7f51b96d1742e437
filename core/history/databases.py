"""The one place of this room that knows which databases there are; asked by whatever installs, looks or tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

from sqlalchemy import Connection

from actionbus.core.history import postgresql, postgresql_standing, sqlite, sqlite_standing
from actionbus.core.history.erasing import ErasedImages
from actionbus.core.history.erasing_postgresql import PostgreSQLStore
from actionbus.core.history.erasing_sqlite import SQLiteStore
from actionbus.core.history.images import Images
from actionbus.core.history.images_postgresql import PostgreSQLImages
from actionbus.core.history.images_sqlite import SQLiteImages
from actionbus.core.history.shapes import Shape, Standing, TableWanted, postgresql_shapes, sqlite_shapes


class Installs(Protocol):
    """Puts triggers on tables, and takes them away; `home` is what stands before a name of ours in SQL."""

    def install(self, connection: Connection, home: str, wanted: Sequence[TableWanted], *, baseline: bool) -> list[str]:
        """See `history.install.install`."""

    def remove(self, connection: Connection, home: str, wanted: Sequence[TableWanted]) -> list[str]:
        """See `history.install.remove`."""


class Looks(Protocol):
    """Sees how tables stand: whether they are recorded, and as they are now."""

    def home_of(self, connection: Connection, schema: str | None) -> str:
        """What stands before a name of ours in SQL. Raises JournalUnavailable where there is no journal."""

    def find_homes(self, connection: Connection) -> list[str]:
        """Likewise of every journal with a row history, wherever it is; the one that is meant comes first."""

    def standings(
        self, connection: Connection, home: str, shapes: Sequence[Shape], wanted: Sequence[TableWanted] | None
    ) -> list[Standing]:
        """How these tables stand, or all that have a history. Looks into the catalogue alone, whatever was recorded."""

    def glancing(self, connection: Connection) -> AbstractContextManager[None]:
        """Meanwhile the catalogue is read in a transaction that waits for nobody. The driver is in autocommit mode."""

    def apart(self, connection: Connection) -> AbstractContextManager[None]:
        """A part of the open transaction that is taken back if something is raised; if none is open, one of its own."""

    def sizes(self, connection: Connection, home: str, shapes: Sequence[Shape]) -> Mapping[str, tuple[int, int]]:
        """By table, how many images there are of it, and their bytes. Reads them all."""


class Database(NamedTuple):
    """What differs between the databases."""

    installs: Installs
    looks: Looks
    images: type[Images]
    shapes: Callable[[Connection, str], list[Shape]]
    """All shapes, oldest first; takes a `home`."""
    store: Callable[[Connection, str, str], ErasedImages]
    """What erases, in the connection's transaction; takes a `home`, and what the record says of the subject."""


_BY_DIALECT: Final = {
    "postgresql": Database(postgresql, postgresql_standing, PostgreSQLImages, postgresql_shapes, PostgreSQLStore),
    "sqlite": Database(sqlite, sqlite_standing, SQLiteImages, sqlite_shapes, SQLiteStore),
}


_DRIVERS: Final = (("postgresql", "psycopg2"), ("sqlite", "pysqlite"))


def database_of(connection: Connection) -> Database:
    """What is for the database of a connection."""
    return _BY_DIALECT[connection.dialect.name]


def is_known(connection: Connection) -> bool:
    """Whether it is of a database, and by a driver, that a Bus works with."""
    return (connection.dialect.name, connection.dialect.driver) in _DRIVERS
