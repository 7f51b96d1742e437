"""Row images as they are read: of a table, of a row, of an action, each at the record that it belongs to.

Used by `core.history.history`; what differs between the databases is in `images_postgresql` and `images_sqlite`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.errors import HistoryArchived
from actionbus.core.history.decoding import Values
from actionbus.core.history.shapes import BASELINE, GAP, Shape
from actionbus.core.storage.archives import GONE, Archive, decoded
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


class Link(NamedTuple):
    """Where the images of one row may not follow from each other: what one left there, what the next took away."""

    left_shape: int | None
    left: Row | None
    shape: int
    taken: Row | None


class Stretch(NamedTuple):
    """Some keys in their order, and what the images of each come to, if each follows from the one before it."""

    keys: Sequence[Any]
    shapes: Sequence[int]
    rows: Sequence[Row | None]
    """As the last image of each key left it; None where it is gone."""
    links: Sequence[tuple[Any, Link]] = ()
    """By key, those that are not the same text or the same values; under two shapes they may still follow."""


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


STRETCH: Final = 500
"""Keys that are read at once: of few made in between, Python's collector looks at least."""
MANY: Final = 1_000
"""Bypasses are counted so far: an answer does not wait for a million of them."""
NOTHING = Cut(0, 0, None)
"""Before the first record."""


class Images(ABC):
    """Reads images in one snapshot of the database."""

    def __init__(self, backend: Backend, connection: Connection) -> None:
        self.connection = connection
        self.prefix = backend.prefix
        self.utc = backend.utc
        self._backend = backend
        self._places: dict[int, int | None] = {}
        self._archives: list[Archive] | None = None

    @abstractmethod
    @contextmanager
    def snapshot(self, *, with_copies: bool = False) -> Iterator[None]:
        """Meanwhile, all that is read is of one moment; `with_copies` of tables, temporary ones can be made."""

    @abstractmethod
    @contextmanager
    def joined(self) -> Iterator[None]:
        """Meanwhile, what is read is read in the transaction that is open, and values read as images have them."""

    @abstractmethod
    def cut(self, position: int, *, is_end: bool) -> Cut:
        """The images of the records up to a position, which must be settled."""

    @abstractmethod
    def residue(
        self,
        shapes: Sequence[Shape],
        since: int,
        cut: Cut,
        before: Cut | None = None,
        keys: Sequence[Any] | None = None,
    ) -> Iterator[Residual]:
        """What is left of the images beyond number `since` up to a cut, without those that belong to `before`.

        With `keys` only of these rows, as images have their keys.
        """

    @abstractmethod
    def stretches(
        self, shapes: Sequence[Shape], since: int, cut: Cut, after: Any = None, size: int = STRETCH
    ) -> Iterator[Stretch]:
        """All keys that images have, in the order in which the index has them, those beyond `after` if it is given.

        The first stretch has at most `size` of them.
        """

    @abstractmethod
    def open_links(self, shapes: Sequence[Shape], keys: Sequence[Any], since: int, cut: Cut) -> list[tuple[Any, Link]]:
        """By key, where an image of these rows does not take away what the one before it left, to the letter."""

    @abstractmethod
    def key_of(self, shape: Shape, key: Values) -> Any:
        """A key as the images of a shape have it. Raises ValueError for what is no key."""

    @abstractmethod
    def of_row(self, shapes: Sequence[Shape], key: Values, since: int, cut: Cut) -> list[Image]:
        """The images of one row, in the order of their numbers. Raises ValueError for what is no key."""

    @abstractmethod
    def of_record(self, shapes: Sequence[Shape], source: Source) -> list[Image]:
        """The images of one record."""

    @abstractmethod
    def positions(self, shapes: Sequence[Shape], low: Cut, high: Cut) -> list[int]:
        """The positions beyond `low` up to `high` at which these tables were changed, ascending."""

    @abstractmethod
    def places(self, conditions: Sequence[tuple[str, Sequence[Any]]], most: int) -> set[int]:
        """The positions of the records of some images `i`: of each condition, with its values, at most so many."""

    @abstractmethod
    def between(self, shapes: Sequence[Shape], low: Cut, high: Cut) -> list[Image]:
        """The images of all records beyond `low` up to `high`, in the order of their numbers."""

    @abstractmethod
    def beyond(self, shapes: Mapping[int, Shape], number: int) -> list[Image]:
        """The images with a higher number, in order, whether or not a record has them: of a sandbox, which has none."""

    @abstractmethod
    def uncommitted(self, shapes: Mapping[int, Shape], nested: Collection[UUID]) -> list[Image]:
        """The images of the action's transaction that is open on the connection, in the order of their numbers.

        `claimed` is the nested action that made one, of those that succeeded, or None for the outermost one.
        """

    @abstractmethod
    def unrecorded(self, shapes: Sequence[Shape], since: int, cut: Cut) -> list[Image]:
        """Images that say of a change only that it could not be recorded."""

    @abstractmethod
    def of_keys(self, shapes: Sequence[Shape], keys: Sequence[Any] | None, since: int, cut: Cut) -> list[Image]:
        """The images of these rows, as images have their keys, or of all, in the order of their numbers."""

    def are_touched(self, shapes: Sequence[Shape], low: Cut, high: Cut) -> bool:
        """Whether anything was changed in a table between two cuts."""
        marks = ", ".join("?" * len(shapes))
        sql = f"SELECT 1 FROM {{home}}actionbus_images WHERE shape IN ({marks}) AND image > ? AND image <= ? LIMIT 1"
        since = min(low.image, high.image, *(each - 1 for each in self.later(low)))
        return bool(self.rows_of(sql, (*(shape.shape for shape in shapes), since, high.image)))

    def count_between(self, shapes: Sequence[Shape], low: Cut, high: Cut, most: int) -> int:
        """About how many changes lie between two cuts, counted until there are more than `most`."""
        marks = ", ".join("?" * len(shapes))
        first, last = sorted((low.image, high.image))
        found = f"SELECT 1 FROM {{home}}actionbus_images WHERE shape IN ({marks}) AND image > ? AND image <= ? LIMIT ?"
        values = (*(shape.shape for shape in shapes), first, last, most + 1)
        return int(self.rows_of(f"SELECT count(*) FROM ({found}) f", values)[0][0]) if shapes else 0

    def count_of_row(self, shapes: Sequence[Shape], key: Values, cut: Cut, most: int) -> int:
        """The same of one row up to a cut. Raises ValueError for what is no key."""
        found = "SELECT 1 FROM {home}actionbus_images WHERE shape = ? AND key = ? AND image <= ? LIMIT ?"
        counted = 0
        for shape in (each for each in shapes if len(each.key) == len(key)):
            values = (shape.shape, self.key_of(shape, key), cut.image, most + 1)
            counted += int(self.rows_of(f"SELECT count(*) FROM ({found}) f", values)[0][0])
        return counted

    def is_longer(self, source: Source, most: int) -> bool:
        """Whether a record has more images than so many."""
        ranges = "SELECT images_after, images_upto FROM {home}journal WHERE position = ?"
        rows = self.rows_of(ranges, (source.position,))
        after, upto = rows[0] if rows else (None, None)
        if after is not None:
            return bool(upto - after > most)
        found = "SELECT 1 FROM {home}actionbus_images WHERE xid = ? AND image <= ? LIMIT ?"
        counted = self.rows_of(f"SELECT count(*) FROM ({found}) f", (source.xid, upto or 0, most + 1))
        return bool(counted[0][0] > most)

    @abstractmethod
    def told(self, shapes: Sequence[Shape], cut: Cut) -> Iterator[list[Any]]:
        """All images up to a cut, as `history.carrying` writes them: number, shape, operation, key, the rest."""

    @abstractmethod
    def remove(self, images: Sequence[Image]) -> None:
        """Take images of an archive out, in the transaction that is open."""

    @abstractmethod
    def make_baseline(self, images: Sequence[Image], widths: Mapping[int, int]) -> None:
        """Make images of an archive the baseline of their rows; `widths` is how many columns each shape has."""

    @abstractmethod
    def later(self, cut: Cut) -> Sequence[int]:
        """The images up to the cut's number that belong to a later record."""

    def place_of(self, shape: Shape) -> int | None:
        """The position from which a shape holds, or is told here; None if only its time tells."""
        if shape.shape not in self._places:
            gone = self.archived(shape.shape)
            self._places[shape.shape] = gone.upto if gone else self._place_of(shape)
        return self._places[shape.shape]

    @property
    def archives(self) -> list[Archive]:
        """What is not here any more in this snapshot, in the order of its ends."""
        if self._archives is None:
            self._archives = [decoded(self._backend, row) for row in self.rows_of(GONE)]
        return self._archives

    def leave_out(self, archive: int) -> None:
        """Read as if this archive had not been made: all that it holds is there still."""
        self._archives = [each for each in self.archives if each.archive != archive]
        self._places.clear()

    def archived(self, shape: int | None = None) -> Archive | None:
        """The last archive of the journal; of a shape, the last that took images of it, or pruned them."""
        wanted = (a for a in reversed(self.archives) if (a.table_name is None if shape is None else shape in a.shapes))
        return next(wanted, None)

    def begun(self, position: int) -> Archive | None:
        """The archive of the journal that a cut goes by. Raises HistoryArchived for a position that it holds."""
        found = self.archived()
        if found is not None and position < found.upto:
            raise HistoryArchived(found.where())
        return found

    def kept(self, image: Image) -> Archive | None:
        """The archive at whose cut an image is the baseline of its row, or tells of a gap before."""
        if image.operation not in (BASELINE, GAP):
            return None
        wanted = (a for a in reversed(self.archives) if image.image <= a.image and image.shape in {0, *a.shapes})
        return next(wanted, None)

    def at_cut(self, image: Image) -> Image:
        """An image where its record is, or at the cut of an archive."""
        found = self.kept(image) if self.archives else None
        return image if found is None else image._replace(position=found.upto, claimed=None)

    @abstractmethod
    def _place_of(self, shape: Shape) -> int | None:
        """The position at which a shape begins, if a record tells it; asked once of each shape."""

    @abstractmethod
    def values(self, shape: Shape, rows: Sequence[Row]) -> Iterable[Values]:
        """The values of the recorded columns, of many rows at once."""

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
        """How many transactions wrote past the gateway up to a cut, as far as is worth counting."""
        found = "SELECT 1 FROM {home}journal WHERE kind = 'bypass' AND position <= ? LIMIT ?"
        return int(self.rows_of(f"SELECT count(*) FROM ({found}) b", (cut.position, MANY))[0][0])

    @abstractmethod
    def last_of(self, shapes: Sequence[Shape]) -> int | None:
        """The position of the last image of these shapes, the journal's last if no record covers it yet."""

    def end(self) -> int:
        """The journal's last position."""
        return int(self.rows_of("SELECT coalesce(max(position), 0) FROM {home}journal")[0][0])

    def standing_since(self, shape: Shape) -> int:
        """The position from which the triggers of a shape stand; the first that may be it where no record tells."""
        if (place := self.place_of(shape)) is not None:
            return place
        first = "SELECT position FROM {home}journal WHERE images_upto >= ? ORDER BY position LIMIT 1"
        found = self.rows_of(first, (shape.since_image,))
        return int(found[0][0]) if found else self.end()

    @abstractmethod
    def waiting(self) -> int:
        """How many images no record covers yet; on PostgreSQL those that name an action which did not make them."""

    def _source(self, row: Sequence[Any]) -> Source:
        position, action_id, kind, action, actor, at, context, xid = row
        return Source(
            position, UUID(str(action_id)), kind, action, actor, self.utc(at), context and loads(context), xid
        )


_SOURCE = "position, action_id, kind, action, actor, recorded_at, CAST(context AS text), xid"
