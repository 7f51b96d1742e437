"""The reader of a database's images. Used by `history.history` and the sandbox."""

from __future__ import annotations

from sqlalchemy import Connection

from actionbus.core.history.images import Images
from actionbus.core.history.images_postgresql import PostgreSQLImages
from actionbus.core.history.images_sqlite import SQLiteImages
from actionbus.core.storage.backend import Backend


def images_of(backend: Backend, connection: Connection) -> Images:
    """Reads the images over a connection."""
    make = SQLiteImages if connection.dialect.name == "sqlite" else PostgreSQLImages
    return make(backend, connection)
