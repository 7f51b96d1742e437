"""The copies on PostgreSQL: temporary tables in the snapshot's transaction, filled from images without leaving it.

Used by `history.bisecting`. The transaction is rolled back in the end; nothing else can be written or seen in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from actionbus.core.errors import HistoryError
from actionbus.core.history.copies import Copy
from actionbus.core.history.fold import Fold, shared
from actionbus.core.history.images import Cut, Link
from actionbus.core.history.images_postgresql import PostgreSQLImages
from actionbus.core.history.opened import OpenedPosition
from actionbus.core.history.recorded import RecordedTable
from actionbus.core.history.shapes import Shape
from actionbus.core.history.versions import FOREVER, Version
from actionbus.core.storage.drivers import driver_connection

_BATCH: Final = 5_000
_LINKED: Final = """CREATE TEMPORARY TABLE actionbus_linked (image bigint, until bigint, shape integer,
    key text COLLATE "C", after text, is_open boolean, was integer, held text, before text)"""

_FIELDS: Final = r"""regexp_matches(substr({row}, 2, length({row}) - 2) || ',', '("([^"\\]|""|\\.)*"|[^,"]*),', 'g')"""
_WITHOUT_ERASED: Final = (
    "CASE WHEN strpos({row}, ' erased:') = 0 THEN {row} ELSE (SELECT '(' || string_agg("
    "CASE WHEN starts_with(f[1], ' erased:') THEN '' ELSE f[1] END, ',' ORDER BY n) || ')' "
    f"FROM {_FIELDS} WITH ORDINALITY AS t (f, n)) END"
)
"""A row's text with NULL where a value was erased, since what stands there has no form of its column's type."""


class OnPostgreSQL(Copy):
    """Temporary tables in the snapshot's transaction."""

    def __init__(self, high: OpenedPosition, tables: Sequence[RecordedTable]) -> None:
        super().__init__(high, tables)
        assert isinstance(high.images, PostgreSQLImages)  # beside which this class was chosen
        self._images = high.images

    def create(self) -> None:
        cursor = self._cursor()
        try:
            self._create()
        except cursor.connection.Error as error:
            told = str(error).splitlines()[0]
            raise HistoryError(f"a query is asked of temporary tables, which cannot be made here: {told}") from None

    def _create(self) -> None:
        self._run("SET LOCAL search_path = pg_temp, pg_catalog")
        super().create()
        self._run(_LINKED)
        for number, table in enumerate(self._tables):
            for shape in self._high.all_of(table):
                self._run(_like(number, table, shape))
        self._run("SET LOCAL transaction_read_only = on")

    def close(self) -> None:
        """All of it goes with the transaction."""

    def holds(self, sql: str) -> bool:
        cursor = self._cursor()
        try:
            cursor.execute(sql)
            row = cursor.fetchone()
        except cursor.connection.Error as error:
            told = str(error).splitlines()[0]
            raise HistoryError(f"the query cannot be run on tables as they were: {told}") from None
        return bool(row and row[0])

    def _run(self, sql: str, rows: Sequence[Sequence[Any]] | None = None) -> None:
        if rows is None:
            self._cursor().execute(sql)  # as it is: a name may hold what would stand for a parameter
        for row in rows or ():
            self._images.run(sql, row)

    def _cursor(self) -> Any:
        return driver_connection(self._images.connection).cursor()

    def _write(
        self, number: int, table: RecordedTable, era: int, shapes: Sequence[Shape], since: int, cut: Cut
    ) -> None:
        fold = Fold(shapes, self._images.values)
        keys: list[Any] | None = None
        if fold.is_keyed:
            linked, values = self._images.linked(shapes, since, cut)
            self._images.run(
                "INSERT INTO actionbus_linked SELECT image, until, shape, key, after, is_open, "
                "CASE WHEN is_open THEN was END, CASE WHEN is_open THEN held END, CASE WHEN is_open THEN before END "
                f"FROM ({linked}) l WHERE after IS NOT NULL OR is_open",
                values,
            )
            keys = self._doubtful(fold)
            for shape in shapes:
                like, clear = f"actionbus_shape_{number}_{shape.shape}", _WITHOUT_ERASED.format(row="after")
                self._images.run(
                    f"{_insert(number, table, shape)} SELECT ?::integer AS era, image, "
                    f"coalesce(until, ?) AS until_image, 0 AS since, ?::bigint AS until, ({clear})::{like} AS held "
                    "FROM actionbus_linked WHERE shape = ? AND after IS NOT NULL OFFSET 0) r",
                    (era, FOREVER, FOREVER, shape.shape),
                )
            self._run("DELETE FROM actionbus_linked")
        if keys or keys is None:
            self._write_placed(number, table, era, shapes, list(self._placed(fold, shapes, keys, since, cut)))

    def _doubtful(self, fold: Fold) -> list[Any]:
        """The keys whose images do not follow from each other; they are out of the way."""
        rows = self._images.rows_of("SELECT key, was, held, shape, before FROM actionbus_linked WHERE is_open")
        keys = fold.doubtful((key, Link(*link)) for key, *link in rows)
        for chosen in _batches(keys):
            self._images.run("DELETE FROM actionbus_linked WHERE key = ANY(?)", (list(chosen),))
        return keys

    def _write_placed(
        self, number: int, table: RecordedTable, era: int, shapes: Sequence[Shape], versions: Sequence[Version]
    ) -> None:
        for shape in shapes:
            like, clear = f"actionbus_shape_{number}_{shape.shape}", _WITHOUT_ERASED.format(row="t.held")
            for chosen in _batches([each for each in versions if each.shape == shape.shape]):
                self._images.run(
                    f"{_insert(number, table, shape)} SELECT ?::integer AS era, 0 AS image, ?::bigint AS until_image, "
                    f"t.since, t.until, ({clear})::{like} AS held "
                    "FROM unnest(?::text[], ?::bigint[], ?::bigint[]) t(held, since, until) OFFSET 0) r",
                    (era, FOREVER, [v.row for v in chosen], [v.since for v in chosen], [v.until for v in chosen]),
                )


def _like(number: int, table: RecordedTable, shape: Shape) -> str:
    """A type of the rows that were written under a shape; the columns that are shown have the table's types."""
    types = {there: table.shape.types[n] for n, there in shared(table.shape, shape)}
    columns = (f"c{n} {types.get(n, 'text')}" for n in range(len(shape.columns)))
    return f"CREATE TEMPORARY TABLE actionbus_shape_{number}_{shape.shape} ({', '.join(columns)})"


def _insert(number: int, table: RecordedTable, shape: Shape) -> str:
    """What is before the query of five bounds and of `held`, the row by its columns under a shape."""
    values = ("NULL" if there is None else f"(r.held).c{there}" for _, there in _shared(table, shape))
    return (
        f"INSERT INTO actionbus_versions_{number} SELECT r.era, r.image, r.until_image, r.since, r.until, "
        f"{', '.join(values)} FROM ("
    )


def _shared(table: RecordedTable, shape: Shape) -> list[tuple[int, int | None]]:
    """The number of each column of the table among those of a shape."""
    there: dict[int, int] = dict(shared(table.shape, shape))
    return [(n, there.get(n)) for n in range(len(table.shape.columns))]


def _batches(found: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (found[start : start + _BATCH] for start in range(0, len(found), _BATCH))
