"""Shapes: which columns a table's images have since when; read by whoever installs triggers or folds images.

A table has a new shape whenever its columns change, and when a baseline is taken of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from actionbus.core.storage.history_ddl import SHAPES
from actionbus.core.storage.names import in_text
from actionbus.core.values.row_keys import key_parts

BASELINE: Final = "b"
GAP: Final = "!"
"""Of the operations of an image, besides `i`, `u` and `d`: a row as it stood, a change that could not be recorded."""


class TableWanted(NamedTuple):
    """A table whose rows are to be recorded; all else about it comes from the database's catalogue."""

    name: str
    schema: str | None = None
    """On PostgreSQL; None is where `search_path` finds it."""
    withheld: tuple[str, ...] = ()
    """Columns that never enter an image, besides those that were withheld before."""
    recorded: tuple[str, ...] = ()
    """Columns that somebody says may be recorded, whatever was withheld before."""


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
    """What a column keeps when it is renamed: PostgreSQL's `attnum`; on SQLite counted by the installer."""
    xid: int | None = None
    """PostgreSQL: the transaction that made it."""
    withheld_numbers: tuple[int, ...] = ()
    """PostgreSQL: `attnum` of those withheld, by which one that is renamed is known again."""
    since_position: int | None = None
    """SQLite: the journal's last position when the shape was made."""

    @property
    def bare(self) -> str:
        """The table's name without its schema; on SQLite, where it has none, a dot is one of the name."""
        return self.table_name if self.relation is None else self.table_name.partition(".")[2]

    @property
    def short(self) -> str:
        """The table's name for people: with its schema, unless that is the one that everybody's are in."""
        return short(self.table_name)

    def parts_of(self, key: Any) -> tuple[Any, ...]:
        """A key as a caller gives it: one, a tuple, or the text of one of several columns (`values.row_keys`)."""
        parts = tuple(key) if isinstance(key, (tuple, list)) else (key,)
        if len(parts) == 1 < len(self.key) and isinstance(parts[0], str):
            return key_parts(parts[0], len(self.key))
        return parts


class Standing(NamedTuple):
    """How a table stands now, as the catalogue has it beside its shape."""

    table_name: str
    shape: Shape | None
    """What its triggers write under; None if it never was recorded, or none of ours is on it."""
    lost: tuple[str, ...]
    """Why changes of rows may go by unrecorded, in sentences."""
    stale: tuple[str, ...]
    """What is recorded otherwise than the table is by now: its columns are others."""
    withheld: tuple[str, ...]
    is_bare: bool = False
    """Whether none of our triggers is left on it, so that its last image is the last that was recorded."""
    is_there: bool = True
    """Whether there is such a table at all."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps its history from being whole; empty if nothing does."""
        return (*self.lost, *self.stale)


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
_SQLITE: Final = f"{_COMMON}, since_position, numbers"
_POSTGRESQL: Final = f"{_COMMON}, is_drifted, relation, numbers, xid, withheld_numbers"
"""Fields of a Shape, which the table's columns are called like."""
_LISTS: Final = ("columns", "types", "key", "withheld", "numbers")


def sqlite_shapes(connection: Connection, home: str) -> list[Shape]:
    """All shapes, oldest first. `home` is what stands before a name of ours in SQL."""
    return [_of_sqlite(row) for row in _rows(connection, home, _SQLITE)]


def postgresql_shapes(connection: Connection, home: str) -> list[Shape]:
    """The shapes of recorded tables on PostgreSQL."""
    return [_of_postgresql(row) for row in _rows(connection, home, _POSTGRESQL)]


def latest(shapes: Iterable[Shape]) -> dict[str, Shape]:
    """The shape of each table that its triggers are to have: the last one that none of them made by itself."""
    return {shape.table_name: shape for shape in shapes if not shape.is_drifted}


def _rows(connection: Connection, home: str, columns: str) -> Sequence[Sequence[Any]]:
    return connection.execute(text(f"SELECT {columns} FROM {in_text(home)}{SHAPES} ORDER BY shape")).all()


def _of_sqlite(row: Sequence[Any]) -> Shape:
    told = dict(zip(_SQLITE.split(", "), row, strict=True))
    told |= {name: tuple(json.loads(told[name])) for name in _LISTS}
    since = datetime.fromisoformat(told["since"]).replace(tzinfo=UTC)
    return Shape(**told | {"since": since, "is_baseline": bool(told["is_baseline"])})


def _of_postgresql(row: Sequence[Any]) -> Shape:
    told = dict(zip(_POSTGRESQL.split(", "), row, strict=True))
    told |= {name: tuple(told[name]) for name in (*_LISTS, "withheld_numbers")}
    return Shape(**told | {"since": told["since"].astimezone(UTC), "relation": int(told["relation"])})


def short(table: str) -> str:
    """A table's name for people; see `Shape.short`."""
    return table.removeprefix("public.")
