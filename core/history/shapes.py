"""Shapes: which columns a table's images have since when; read by whoever installs triggers or folds images.

A table has a new shape whenever its columns change, and when a baseline is taken of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from actionbus.core.storage.backend import in_text
from actionbus.core.storage.history_ddl import SHAPES

BASELINE: Final = "b"
GAP: Final = "!"
"""Of the operations of an image, besides `i`, `u` and `d`: a row as it stood, a change that could not be recorded."""


class TableWanted(NamedTuple):
    """A table whose rows are to be recorded; all else about it comes from the database's catalogue."""

    name: str
    schema: str | None = None
    """On PostgreSQL; None is where `search_path` finds it."""
    withheld: tuple[str, ...] = ()
    """Columns that never enter an image."""


class Shape(NamedTuple):
    """What the images of one table hold since some moment."""

    shape: int
    table_name: str
    """`schema.table` on PostgreSQL, `table` on SQLite."""
    columns: tuple[str, ...]
    """Those recorded, in the order in which an image has them."""
    types: tuple[str, ...]
    """Of the columns, as the database writes them."""
    key: tuple[str, ...]
    """The primary key's columns; empty if there is none."""
    withheld: tuple[str, ...]
    is_baseline: bool
    """The table's fold begins anew here: of its images only those after `since_image` count."""
    since: datetime
    since_image: int
    """The last image's number when the shape was made."""
    is_drifted: bool = False
    """Made by a trigger that met changed columns, because nobody had renewed it."""
    relation: int | None = None
    """PostgreSQL: the table's oid."""
    numbers: tuple[int, ...] = ()
    """PostgreSQL: the columns' `attnum`."""
    xid: int | None = None
    """PostgreSQL: the transaction that made it."""


class TableStatus(NamedTuple):
    """How far a table's rows are recorded."""

    table_name: str
    since: datetime | None
    """When its last baseline was taken, or it was installed empty; None if it never was."""
    since_image: int | None
    problems: tuple[str, ...]
    """What keeps the history from being whole, in sentences; empty if nothing does."""
    withheld: tuple[str, ...]
    columns: tuple[str, ...]
    images: int
    bytes: int
    """Of its images, their texts alone; on SQLite of the values."""

    @property
    def is_whole(self) -> bool:
        """Whether every change of a row is recorded from now on."""
        return not self.problems


_COMMON: Final = "shape, table_name, columns, types, key, withheld, is_baseline, since, since_image"
_POSTGRESQL: Final = f"{_COMMON}, is_drifted, relation, numbers, xid"


def read_shapes(connection: Connection, prefix: str) -> list[Shape]:
    """All shapes, oldest first. `prefix` is the backend's: what stands before a name of ours in SQL."""
    is_sqlite = connection.dialect.name == "sqlite"
    columns = _COMMON if is_sqlite else _POSTGRESQL
    rows = connection.execute(text(f"SELECT {columns} FROM {in_text(prefix)}{SHAPES} ORDER BY shape")).all()
    return [_of_sqlite(row) if is_sqlite else _of_postgresql(row) for row in rows]


def latest(shapes: Iterable[Shape]) -> dict[str, Shape]:
    """The shape of each table that its triggers are to have: the last one that none of them made by itself."""
    return {shape.table_name: shape for shape in shapes if not shape.is_drifted}


def _of_sqlite(row: Sequence[Any]) -> Shape:
    shape, table_name, columns, types, key, withheld, is_baseline, since, since_image = row
    columns, types, key, withheld = (tuple(json.loads(each)) for each in (columns, types, key, withheld))
    moment = datetime.fromisoformat(since).replace(tzinfo=UTC)
    return Shape(shape, table_name, columns, types, key, withheld, bool(is_baseline), moment, since_image)


def _of_postgresql(row: Sequence[Any]) -> Shape:
    (shape, table_name, columns, types, key, withheld, is_baseline, since, since_image, is_drifted, relation, numbers,
     xid) = row  # fmt: skip
    return Shape(
        shape, table_name, tuple(columns), tuple(types), tuple(key), tuple(withheld), is_baseline,
        since.astimezone(UTC), since_image, is_drifted, int(relation), tuple(numbers), xid,
    )  # fmt: skip
