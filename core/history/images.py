"""Row images as they are read: of a table, of a row, of an action, each at the record that it belongs to.

Used by `core.history.history`; what differs between the databases is in `images_postgresql` and `images_sqlite`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.history.decoding import Values
from actionbus.core.history.shapes import Shape
from actionbus.core.storage.backend import Backend
from actionbus.core.values.change import Source
from actionbus.core.values.payload import loads

Row = Any
"""A row as an image holds it: its text on PostgreSQL, its values on SQLite."""


class Image(NamedTuple):
    """One change of one row."""

    image: int
    shape: int
    operation: str
    key: Any
    before: Row | None
    after: Row | None
    claimed: str | None
    """The action that the session named; on SQLite nobody names one."""
    position: int | None
    """Of the record that it belongs to; None on SQLite while no record covers it."""
    at: datetime | None = None
    """When it was made, where the database noted that."""


class Residual(NamedTuple):
    """What is left of one row when every `before` has been taken from the `after`s: how often, since which image."""

    shape: int
    key: Any
    row: Row
    times: int
    image: int


class Cut(NamedTuple):
    """Which images belong to a position or an earlier one: those up to `image`, but for `later`."""

    position: int
    image: int
    moment: datetime | None
    later: tuple[int, ...] = ()
    """On PostgreSQL these are looked up when a whole table is asked for."""
    ended: int = 0
    """PostgreSQL: transactions with a smaller number had ended before this position was drawn."""
    is_end: bool = False
    """Whether it is the journal's last position in this snapshot."""


NOTHING = Cut(0, 0, None)
"""Before the first record."""


class Images(ABC):
    """Reads images in one snapshot of the database."""

    def __init__(self, backend: Backend, connection: Connection) -> None:
        self.connection = connection
        self.prefix = backend.prefix
        self.utc = backend.utc

    @abstractmethod
    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Meanwhile, all that is read is of one moment."""

    @abstractmethod
    def cut(self, position: int, *, is_end: bool) -> Cut:
        """The images of the records up to a position, which must be settled."""

    @abstractmethod
    def residue(self, shapes: Sequence[Shape], since: int, cut: Cut, before: Cut | None = None) -> Iterator[Residual]:
        """What is left of the images beyond number `since` up to a cut, without those that belong to `before`."""

    @abstractmethod
    def of_row(self, shapes: Sequence[Shape], key: Values, since: int, cut: Cut) -> list[Image]:
        """The images of one row, in the order of their numbers. Raises ValueError for what is no key."""

    @abstractmethod
    def of_record(self, shapes: Sequence[Shape], source: Source) -> list[Image]:
        """The images of one record."""

    @abstractmethod
    def between(self, shapes: Sequence[Shape], low: Cut, high: Cut) -> list[Image]:
        """The images of all records beyond `low` up to `high`, in the order of their numbers."""

    @abstractmethod
    def beyond(self, shapes: Mapping[int, Shape], number: int) -> list[Image]:
        """The images with a higher number, in order, whether or not a record has them: of a sandbox, which has none."""

    @abstractmethod
    def unrecorded(self, shapes: Sequence[Shape], since: int, cut: Cut) -> list[Image]:
        """Images that say of a change only that it could not be recorded."""

    @abstractmethod
    def positions(self, shapes: Sequence[Shape], low: Cut, high: Cut) -> list[int]:
        """The positions beyond `low` up to `high` that changed these tables, ascending."""

    @abstractmethod
    def place_of(self, shape: Shape) -> int | None:
        """The position from which a shape holds; None if only its time tells."""

    @abstractmethod
    def values(self, shape: Shape, row: Row) -> Values:
        """The values of a row's recorded columns."""

    @abstractmethod
    def rows_of(self, sql: str, parameters: Sequence[Any] = ()) -> list[Sequence[Any]]:
        """The rows of a statement, by the driver; `?` stands for a parameter, `{home}` for the journal's schema."""

    def sources(self, positions: Sequence[int]) -> dict[int, Source]:
        """The records at these positions."""
        found: dict[int, Source] = {}
        wanted = sorted(set(positions))
        for start in range(0, len(wanted), 500):
            chosen = wanted[start : start + 500]
            marks = ", ".join("?" * len(chosen))
            rows = self.rows_of(f"SELECT {_SOURCE} FROM {{home}}journal WHERE position IN ({marks})", chosen)
            found |= {row[0]: self._source(row) for row in rows}
        return found

    def count_bypasses(self, cut: Cut) -> int:
        """How many transactions wrote past the gateway up to a cut."""
        sql = "SELECT count(*) FROM {home}journal WHERE kind = 'bypass' AND position <= ?"
        return int(self.rows_of(sql, (cut.position,))[0][0])

    def waiting(self) -> int:
        """How many images no record covers yet; on PostgreSQL none, as each transaction appends its own record."""
        return 0

    def _source(self, row: Sequence[Any]) -> Source:
        position, action_id, kind, action, actor, at, context, xid = row
        return Source(
            position, UUID(str(action_id)), kind, action, actor, self.utc(at), context and loads(context), xid
        )


_SOURCE = "position, action_id, kind, action, actor, recorded_at, CAST(context AS text), xid"
