"""Tables as they were, for a query to see: all versions of their rows, of which a view shows those of one position.

Used by `history.bisecting`. Versions are written once for each beginning of a table's history; to go to another
position then costs nothing but the view. What differs between the databases is below and in `copies_postgresql`.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from actionbus.core.errors import HistoryError
from actionbus.core.history.decoding import UNKNOWN, ErasedValue, has_erased
from actionbus.core.history.fold import Fold, as_of
from actionbus.core.history.images import Cut
from actionbus.core.history.images_sqlite import SQLiteImages
from actionbus.core.history.opened import OpenedPosition
from actionbus.core.history.recorded import RecordedTable
from actionbus.core.history.shapes import Shape
from actionbus.core.history.sqlite_texts import bound, marks
from actionbus.core.history.versions import FOREVER, Version, of_keys, without_keys
from actionbus.core.storage.names import quoted

_BATCH: Final = 5_000
_ROUND: Final = 250
_HELPERS: Final = (
    "CREATE TEMPORARY TABLE actionbus_at (position bigint, image bigint)",
    "CREATE TEMPORARY TABLE actionbus_later (image bigint)",
    "CREATE TEMPORARY TABLE actionbus_eras (number integer, era integer)",
    "INSERT INTO actionbus_at VALUES (0, 0)",
)


class Copy(ABC):
    """Copies of tables that a query sees in their stead; what is unknown or erased is NULL in them."""

    def __init__(self, high: OpenedPosition, tables: Sequence[RecordedTable]) -> None:
        self._high = high
        self._tables = tables
        self._written: set[int] = set()

    def create(self) -> None:
        """Make the tables and what the query sees of them."""
        for statement in _HELPERS:
            self._run(statement)
        for number, table in enumerate(self._tables):
            for statement in self._creating(number, table):
                self._run(statement)

    def go(self, at: OpenedPosition) -> None:
        """Show the tables as they were at a position."""
        self._run("DELETE FROM actionbus_eras")
        for number, table in enumerate(self._tables):
            recorded = at.find(table.name)
            if recorded is None:
                continue
            era = recorded.shapes[0].shape
            if era not in self._written:
                self._written.add(era)
                self._write(number, table, era, self._of_era(recorded), recorded.since_image, self._high.cut)
            self._run("INSERT INTO actionbus_eras VALUES (?, ?)", [(number, era)])
        self._run("DELETE FROM actionbus_later")
        self._run("INSERT INTO actionbus_later VALUES (?)", [(each,) for each in at.images.later(at.cut)])
        self._run("UPDATE actionbus_at SET position = ?, image = ?", [(at.cut.position, at.cut.image)])

    @abstractmethod
    def holds(self, sql: str) -> bool:
        """Whether the query's first value is true. Raises HistoryError for what is no query."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what the copies lie in; called when nothing more is asked."""

    @abstractmethod
    def _run(self, sql: str, rows: Sequence[Sequence[Any]] | None = None) -> None:
        """A statement; with rows, once for each."""

    @abstractmethod
    def _write(
        self, number: int, table: RecordedTable, era: int, shapes: Sequence[Shape], since: int, cut: Cut
    ) -> None:
        """Write the versions of all rows of a table since its history began."""

    def _creating(self, number: int, table: RecordedTable) -> Iterator[str]:
        names = [quoted(each) for each in table.shape.columns]
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, table.shape.types, strict=True))
        yield (
            f"CREATE TEMPORARY TABLE actionbus_versions_{number} (actionbus_era integer, actionbus_image bigint, "
            f"actionbus_until_image bigint, actionbus_since bigint, actionbus_until bigint, {columns})"
        )
        yield f"""CREATE TEMPORARY VIEW {quoted(table.bare)} AS
            SELECT {", ".join(f"v.{name}" for name in names)} FROM actionbus_versions_{number} v
            WHERE v.actionbus_era = (SELECT era FROM actionbus_eras WHERE number = {number})
            AND v.actionbus_image <= (SELECT image FROM actionbus_at)
            AND v.actionbus_image NOT IN (SELECT image FROM actionbus_later)
            AND (v.actionbus_until_image > (SELECT image FROM actionbus_at)
                OR v.actionbus_until_image IN (SELECT image FROM actionbus_later))
            AND v.actionbus_since <= (SELECT position FROM actionbus_at)
            AND v.actionbus_until > (SELECT position FROM actionbus_at)"""

    def _of_era(self, recorded: RecordedTable) -> list[Shape]:
        """All shapes from the beginning that is in force up to the next one."""
        shapes = [each for each in self._high.all_of(recorded) if each.shape >= recorded.shapes[0].shape]
        anew = next((n for n, each in enumerate(shapes) if n and each.is_baseline), len(shapes))
        return shapes[:anew]

    def _placed(
        self, fold: Fold, shapes: Sequence[Shape], keys: Sequence[Any] | None, since: int, cut: Cut
    ) -> Iterator[Version]:
        """The versions of rows whose images have no order that tells them."""
        images = self._high.images.of_keys(shapes, keys, since, cut)
        return of_keys(images, fold) if fold.is_keyed else without_keys(images, fold)


class OnSQLite(Copy):
    """A database in memory of its own."""

    def __init__(self, high: OpenedPosition, tables: Sequence[RecordedTable]) -> None:
        super().__init__(high, tables)
        self._database = sqlite3.connect(":memory:")

    def close(self) -> None:
        self._database.close()

    def holds(self, sql: str) -> bool:
        try:
            row = self._database.execute(sql).fetchone()
        except sqlite3.Error as error:
            raise HistoryError(f"the query cannot be run on tables as they were: {error}") from None
        return bool(row and row[0])

    def _run(self, sql: str, rows: Sequence[Sequence[Any]] | None = None) -> None:
        if rows is None:
            self._database.execute(sql)
        else:
            self._database.executemany(sql, rows)

    def _write(
        self, number: int, table: RecordedTable, era: int, shapes: Sequence[Shape], since: int, cut: Cut
    ) -> None:
        images = self._high.images
        assert isinstance(images, SQLiteImages)  # beside which this class was chosen
        fold = Fold(shapes, images.values)
        known = {each.shape: each for each in shapes}
        doubtful: list[Any] = []

        def in_order() -> Iterator[tuple[int, Any, tuple[int, int, int, int]]]:
            linked = images.linked(shapes, since, cut)
            while chunk := list(islice(linked, _ROUND)):
                open_ = fold.doubtful((key, link) for key, _, links in chunk for link in links)
                doubtful.extend(open_)
                for key, versions, _ in chunk:
                    ends = (*(each[0] for each in versions[1:]), FOREVER)
                    for (image, shape, row), until in zip(versions, ends, strict=True):
                        if row is not None and not (open_ and key in open_):
                            yield shape, row, (image, until, 0, FOREVER)

        def told(found: Iterable[tuple[int, Any, tuple[int, int, int, int]]]) -> Iterator[tuple[Any, ...]]:
            for shape, row, bounds in found:
                if shape != table.shape.shape:
                    (columns,) = as_of(table.shape, known[shape], [row])
                    row = [None if value is UNKNOWN else value for value in columns.values()]
                if images.has_erasures and has_erased(row):
                    row = [None if isinstance(value, ErasedValue) else value for value in row]
                yield (era, *bounds, *row)

        if fold.is_keyed:
            self._insert(number, told(in_order()))
        keys = doubtful if fold.is_keyed else None
        if keys or keys is None:
            placed = self._placed(fold, shapes, keys, since, cut)
            self._insert(number, told((v.shape, v.row, (0, FOREVER, v.since, v.until)) for v in placed))

    def _insert(self, number: int, rows: Iterator[tuple[Any, ...]]) -> None:
        into = f"INSERT INTO actionbus_versions_{number} VALUES"
        while batch := list(islice(rows, _BATCH)):
            self._database.commit()
            try:
                self._database.executemany(f"{into} ({marks(batch[0])})", batch)
            except UnicodeEncodeError:  # a text that is no UTF-8
                self._database.rollback()
                for each in batch:
                    row = [bound(value) for value in each]
                    self._database.execute(f"{into} ({marks(row)})", row)
