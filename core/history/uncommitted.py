"""What the open transaction of an action has done to rows so far, told from its images before they are committed.

Used by a preview, which rolls back afterwards, and by a revert, which compares it with what was to be put back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.errors import JournalUnavailable
from actionbus.core.history.databases import database_of
from actionbus.core.history.images import Image, Images
from actionbus.core.history.opened import OPERATIONS
from actionbus.core.history.shapes import Shape
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.drivers import driver_error
from actionbus.core.values.change import Change, Columns, Source, Who

_DENIED = "42501"


class UncommittedImages:
    """The images of the transaction that is open on a connection. Raises JournalUnavailable where they are not shown.

    `nested` are the nested actions that succeeded in it.
    """

    def __init__(self, backend: Backend, connection: Connection, nested: Collection[UUID] = ()) -> None:
        database = database_of(connection)
        try:
            self.shapes: Mapping[int, Shape] = {
                each.shape: each for each in database.shapes(connection, backend.prefix)
            }
            self._reader: Images = database.images(backend, connection)
            with self._reader.joined():
                self.images: list[Image] = self._reader.uncommitted(self.shapes, nested)
        except Exception as error:
            if getattr(driver_error(error), "pgcode", None) != _DENIED:
                raise
            raise JournalUnavailable(
                "row images are read for this, which the database's user may not: "
                "GRANT SELECT ON actionbus_shapes, actionbus_images TO …"
            ) from error

    def changes(self, source: Source, nested: Mapping[UUID, Source]) -> list[Change]:
        """The same as the row history would tell it. `source` is what the outermost action's record would be."""
        found = []
        for image in self.images:
            shape = self.shapes[image.shape]
            before, after = self.columns(shape, image.before), self.columns(shape, image.after)
            of = source if image.claimed is None else nested[UUID(image.claimed)]
            whole = after or before or {}
            key = {name: whole[name] for name in shape.key if name in whole}
            who = Who(of, image.at or of.at)
            found.append(Change(shape.table_name, OPERATIONS[image.operation], before, after, who, key))
        return found

    def columns(self, shape: Shape, row: Any) -> Columns | None:
        """A row as an image has it, by its columns."""
        if row is None:
            return None
        (values,) = self._reader.values(shape, [row])
        return dict(zip(shape.columns, values, strict=True))
