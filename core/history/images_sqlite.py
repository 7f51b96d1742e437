"""Reads images on SQLite and finds the record that each belongs to. Used by `core.history.history`.

There is one writer, so the images of a transaction are a range of numbers, which its outcome names; a nested action has
a range inside its outer one's, and a record that was appended before. So over the records `images_upto` never falls,
and the record of an image is the first whose range it lies in.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice, takewhile
from marshal import dumps
from typing import Any, Final
from uuid import UUID

from actionbus.core.history.decoding import ErasedValue, Values
from actionbus.core.history.images import NOTHING, STRETCH, Cut, Image, Images, Link, Residual, Row, Stretch
from actionbus.core.history.shapes import BASELINE, GAP, Shape
from actionbus.core.history.sqlite_texts import AS_IT_IS, as_stored, count_row, place_of_key, text_of
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.history_ddl import IMAGES
from actionbus.core.storage.privacy_ddl import ERASURES, TAG_SIZE
from actionbus.core.storage.sqlite_images import RANGES, Ranges, key_part
from actionbus.core.values.change import Source

_OF_ITSELF: Final = ("image", "operation", "key", "at")
_DAY_ZERO: Final = 2440587.5
"""The Julian day with which 1970 begins."""
_NEAR: Final = 64
"""Positions among which the next record with images nearly always is."""

Version = tuple[int, int, Row | None]
"""An image's number, its shape, what it left there."""


class SQLiteImages(Images):
    """The images of a database on SQLite. In what they give, an erased value is an Erased."""

    _tags: Collection[bytes] = ()
    """With which the stand-ins of each erasure begin."""

    @contextmanager
    def snapshot(self, *, with_copies: bool = False) -> Iterator[None]:
        self._dbapi().execute("BEGIN")
        try:
            with self.joined():
                yield
        finally:
            self._dbapi().execute("ROLLBACK")

    @contextmanager
    def joined(self) -> Iterator[None]:
        dbapi = self._dbapi()
        factories = dbapi.row_factory, dbapi.text_factory
        dbapi.row_factory, dbapi.text_factory = None, text_of
        try:
            self._tags = {tag for (tag,) in self.rows_of(f"SELECT tag FROM {{home}}{ERASURES}")}
            yield
        finally:
            dbapi.row_factory, dbapi.text_factory = factories

    def cut(self, position: int, *, is_end: bool) -> Cut:
        begun = self.begun(position)
        first = begun.upto if begun else 0
        last = self.rows_of(
            "SELECT position, recorded_at, cause_id FROM {home}journal WHERE position <= ? AND position > ? "
            "ORDER BY position DESC LIMIT 1",
            (position, first),
        )
        ranged = self._last_range(position)
        image = ranged[2] if ranged and ranged[0] > first else begun.image if begun else 0
        if is_end:
            image = self.rows_of("SELECT coalesce(max(image), 0) FROM {home}actionbus_images")[0][0]
        if not last:
            moment = begun.moment if begun else None
            return NOTHING._replace(position=position, image=image, moment=moment, is_end=is_end)
        later = self._of_outer(position, last[0][2], image)
        return Cut(position, image, self.utc(last[0][1]), later, is_end=is_end)

    def _last_range(self, position: int) -> Sequence[Any] | None:
        rows = self.rows_of(
            "SELECT position, images_after, images_upto FROM {home}journal WHERE position <= ? "
            "AND images_upto IS NOT NULL ORDER BY position DESC LIMIT 1",
            (position,),
        )
        return rows[0] if rows else None

    def _of_outer(self, position: int, cause: Any, image: int) -> tuple[int, ...]:
        """At a position between a nested action's records and its outer one's: the images that are the outer one's."""
        after = None
        while cause is not None:
            outer = self.rows_of(
                "SELECT cause_id, images_after FROM {home}journal "
                "WHERE action_id = ? AND kind = 'outcome' AND position > ?",
                (cause, position),
            )
            cause, after = (outer[0][0], outer[0][1]) if outer else (None, after)
        if after is None:
            return ()
        own = set(range(after + 1, image + 1))
        for _, low, high, _ in self._inside(position + 1, after):
            own -= set(range(low + 1, high + 1))
        return tuple(sorted(own))

    def residue(
        self,
        shapes: Sequence[Shape],
        since: int,
        cut: Cut,
        before: Cut | None = None,
        keys: Sequence[Any] | None = None,
    ) -> Iterator[Residual]:
        for shape in shapes:
            if keys is None:
                yield from self._residue(shape, since, cut, before)
            for key in keys or ():
                yield from self._residue(shape, since, cut, before, " AND key IS ?", (key,))

    def _residue(
        self, shape: Shape, since: int, cut: Cut, before: Cut | None, only: str = "", values: Sequence[Any] = ()
    ) -> Iterator[Residual]:
        width = len(shape.columns)
        later, earlier = frozenset(cut.later), frozenset(before.later) if before else frozenset()
        low = before.image if before else 0
        begin = max(since, min(low, min(earlier, default=low + 1) - 1))
        counts: dict[bytes, list[Any]] = {}
        where = f"image > ? AND image <= ?{only}"
        for row in self._of_shape(shape, where, (begin, cut.image, *values), by_key=bool(only)):
            image, operation, key = row[:3]
            if image in later or (image <= low and image not in earlier):
                continue
            if operation in "iub":
                count_row(counts, key, row[4 + width :], 1, image)
            if operation in "ud":
                count_row(counts, key, row[4 : 4 + width], -1, image)
        for key, held, times, image in counts.values():
            if times:
                yield Residual(shape.shape, key, self._told(held), times, image)

    def stretches(
        self, shapes: Sequence[Shape], since: int, cut: Cut, after: Any = None, size: int = STRETCH
    ) -> Iterator[Stretch]:
        linked = self.linked(shapes, since, cut, *(() if after is None else (" AND key > ?", after)))
        while chunk := list(islice(linked, min(size, STRETCH))):
            last = [versions[-1] for _, versions, _ in chunk]
            links = [(key, link) for key, _, found in chunk for link in found]
            yield Stretch([each[0] for each in chunk], [each[1] for each in last], [each[2] for each in last], links)

    def open_links(self, shapes: Sequence[Shape], keys: Sequence[Any], since: int, cut: Cut) -> list[tuple[Any, Link]]:
        every = (linked for key in keys for linked in self.linked(shapes, since, cut, " AND key IS ?", key))
        return [(key, link) for key, _, links in every for link in links]

    def linked(
        self, shapes: Sequence[Shape], since: int, cut: Cut, where: str = "", *values: Any
    ) -> Iterator[tuple[Any, list[Version], tuple[Link, ...]]]:
        """Of each key what every image left, and where one may not take away what the one before it left."""
        streams = [self._by_key(shape, since, cut, where, *values) for shape in shapes]
        ordered = streams[0] if len(streams) == 1 else merge(*streams, key=place_of_key)
        last, held, was = None, None, None
        links: list[Link] = []
        versions: list[Version] = []
        for key, image, shape, taken, row in ordered:
            if key != last:
                if versions:
                    yield last, versions, tuple(links)
                last, held, was, links, versions = key, None, None, [], []
            if (taken is not None or held is not None) and (
                shape != was or held is None or taken is None or dumps(held, AS_IT_IS) != dumps(taken, AS_IT_IS)
            ):
                links.append(Link(was, self._told(held), shape, self._told(taken)))
            held, was = row, shape
            versions.append((image, shape, self._told(held)))
        if versions:
            yield last, versions, tuple(links)

    def _by_key(self, shape: Shape, since: int, cut: Cut, where: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Key, number, shape, the row that was taken away and the one that was put there, by key and number."""
        later, middle, number = frozenset(cut.later), 4 + len(shape.columns), shape.shape
        columns = ", ".join(f"{side}{n}" for side in "on" for n in range(1, len(shape.columns) + 1))
        sql = (  # by the index of keys, in their order; by that of numbers, all would have to be sorted
            f"SELECT key, image, operation IN ('u', 'd'), operation <> 'd', {columns} FROM {{home}}actionbus_images "
            f"WHERE shape = ? AND +image > ? AND +image <= ? AND operation <> '{GAP}'{where} ORDER BY key, image"
        )
        for row in self._execute(sql, (number, since, cut.image, *values)):
            if row[1] not in later:
                yield row[0], row[1], number, row[4:middle] if row[2] else None, row[middle:] if row[3] else None

    def of_row(self, shapes: Sequence[Shape], key: Values, since: int, cut: Cut) -> list[Image]:
        found: list[tuple[Shape, Sequence[Any]]] = []
        for shape in shapes:
            if len(shape.key) == len(key):
                sql = "image > ? AND image <= ? AND key = ?"
                rows = self._of_shape(shape, sql, (since, cut.image, self.key_of(shape, key)), by_key=True)
                found += [(shape, row) for row in rows if row[0] not in cut.later]
        return self._images(found)

    def key_of(self, shape: Shape, key: Values) -> Any:
        types = [shape.types[shape.columns.index(each)] for each in shape.key]
        values = [as_stored(kind, value) for kind, value in zip(types, key, strict=True)]
        if len(values) == 1:
            return values[0]
        parts = " || ',' || ".join(key_part(f"?{number}") for number in range(1, len(values) + 1))
        return self.rows_of(f"SELECT {parts}", values)[0][0]

    def of_record(self, shapes: Sequence[Shape], source: Source) -> list[Image]:
        sql = "SELECT images_after, images_upto FROM {home}journal WHERE position = ? AND images_upto IS NOT NULL"
        rows = self.rows_of(sql, (source.position,))
        found = [image for low, high in rows for image in self._within(shapes, "image > ? AND image <= ?", (low, high))]
        return [each for each in found if each.position == source.position]

    def positions(self, shapes: Sequence[Shape], low: Cut, high: Cut) -> list[int]:
        begun, marks = self.archived(), ", ".join("?" * len(shapes))
        since = max(low.image, begun.image if begun else 0)
        where = f"i.shape IN ({marks}) AND i.image > ? AND i.image <= ?"
        found = self.places([(where, [*(shape.shape for shape in shapes), since, high.image])], -1)
        return sorted(each for each in found if low.position < each <= high.position)

    def places(self, conditions: Sequence[tuple[str, Sequence[Any]]], most: int) -> set[int]:
        some = "SELECT i.image FROM {{home}}actionbus_images i WHERE {} ORDER BY i.image LIMIT {}"
        found = {image for where, values in conditions for (image,) in self._execute(some.format(where, most), values)}
        return set(self._records_of(sorted(found)).values())

    def between(self, shapes: Sequence[Shape], low: Cut, high: Cut) -> list[Image]:
        first = min((*low.later, low.image + 1))
        found = self._within(shapes, "image >= ? AND image <= ?", (first, high.image))
        return [each for each in found if each.position is not None and low.position < each.position <= high.position]

    def beyond(self, shapes: Mapping[int, Shape], number: int) -> list[Image]:
        found = self._execute("SELECT * FROM {home}actionbus_images WHERE image > ? ORDER BY image", (number,))
        places = {column[0]: place for place, column in enumerate(found.description)}
        images = []
        for row in found:
            shape = shapes.get(row[places["shape"]])
            if shape is not None:
                width = range(1, len(shape.columns) + 1)
                sides = (row[places[f"{side}{n}"]] for side in "on" for n in width)
                images.append(self._image(shape, (*(row[places[name]] for name in _OF_ITSELF), *sides), None))
        return images

    def uncommitted(self, shapes: Mapping[int, Shape], nested: Collection[UUID]) -> list[Image]:
        ranges: Ranges | None = self.connection.info.get(RANGES)
        found = self.beyond(shapes, ranges.before) if ranges else []
        owners = ((each, ranges.owner(each.image, nested)) for each in found if ranges)
        return [each._replace(claimed=owner.hex if owner else None) for each, owner in owners]

    def unrecorded(self, shapes: Sequence[Shape], since: int, cut: Cut) -> list[Image]:
        sql = f"image > ? AND image <= ? AND key IS NULL AND operation = '{GAP}'"
        return self._within(shapes, sql, (since, cut.image), by_key=True)

    def _within(self, shapes: Sequence[Shape], sql: str, values: Sequence[Any], *, by_key: bool = False) -> list[Image]:
        found = ((shape, self._of_shape(shape, sql, values, by_key=by_key)) for shape in shapes)
        return self._images([(shape, row) for shape, rows in found for row in rows])

    def of_keys(self, shapes: Sequence[Shape], keys: Sequence[Any] | None, since: int, cut: Cut) -> list[Image]:
        where, values = "image > ? AND image <= ?", (since, cut.image)
        if keys is None:
            found = [(shape, row) for shape in shapes for row in self._of_shape(shape, where, values)]
        else:
            found = [
                (shape, row)
                for shape in shapes
                for key in keys
                for row in self._of_shape(shape, f"{where} AND key IS ?", (*values, key), by_key=True)
            ]
        return self._images([each for each in found if each[1][0] not in cut.later])

    def later(self, cut: Cut) -> Sequence[int]:
        return cut.later

    def told(self, shapes: Sequence[Shape], cut: Cut) -> Iterator[list[Any]]:
        widths = {shape.shape: 5 + 2 * len(shape.columns) for shape in shapes}
        columns = "".join(f", o{n}, n{n}" for n in range(1, max(widths.values(), default=5) // 2 - 1))
        told = f"SELECT image, shape, operation, key, at{columns} FROM {{home}}actionbus_images"
        found: Iterator[Any] = iter(())
        if widths:
            found = self._execute(f"{told} WHERE image <= ? ORDER BY image", (cut.image,))
        return (list(row[: widths.get(row[1], 5)]) for row in found if row[0] not in cut.later)

    def remove(self, images: Sequence[Image]) -> None:
        self._dbapi().executemany(f"DELETE FROM {self.prefix}{IMAGES} WHERE image = ?", [(i.image,) for i in images])

    def make_baseline(self, images: Sequence[Image], widths: Mapping[int, int]) -> None:
        for each in images:
            before = "".join(f", o{number} = NULL" for number in range(1, widths[each.shape] + 1))
            sql = f"UPDATE {self.prefix}{IMAGES} SET operation = '{BASELINE}'{before} WHERE image = ?"
            self._dbapi().execute(sql, (each.image,))

    def _place_of(self, shape: Shape) -> int | None:
        if not shape.is_baseline:
            return None
        # What was copied follows at once: nobody else writes in between.
        first = "SELECT min(image) FROM {home}actionbus_images WHERE image > ?"
        found = self._within([shape], f"image = ({first}) AND operation = '{BASELINE}'", (shape.since_image,))
        return found[0].position if found else None

    def last_of(self, shapes: Sequence[Shape]) -> int | None:
        # Backwards by number, whatever the index of keys promises: the last one is found soon.
        last = "SELECT image FROM {home}actionbus_images WHERE +shape IN (%s) ORDER BY image DESC LIMIT 1"
        numbers = [shape.shape for shape in shapes]
        found = [image for (image,) in self.rows_of(last % ", ".join("?" * len(numbers)), numbers)]
        if found and (begun := self.archived()) and found[0] <= begun.image:
            return begun.upto
        return self._records_of(found).get(found[0]) or self.end() if found else None

    def waiting(self) -> int:
        sql, last = "SELECT count(*) FROM {home}actionbus_images WHERE image > ?", self._last_range(2**62)
        return int(self.rows_of(sql, (last[2] if last else 0,))[0][0])

    def values(self, shape: Shape, rows: Sequence[Row]) -> Iterable[Values]:
        return rows

    @property
    def has_erasures(self) -> bool:
        """Whether anything was ever erased here."""
        return bool(self._tags)

    def _told(self, row: Row | None) -> Row | None:
        return tuple(map(self._value, row)) if row is not None and self._tags else row

    def _value(self, value: Any) -> Any:
        is_erased = isinstance(value, bytes) and value[:TAG_SIZE] in self._tags
        return ErasedValue(value[TAG_SIZE:].hex()) if is_erased else value

    def _of_shape(
        self, shape: Shape, where: str, values: Sequence[Any], *, by_key: bool = False
    ) -> Iterator[Sequence[Any]]:
        """Its images: number, operation, key, time, then all columns before and all after."""
        columns = ", ".join(f"{side}{n}" for side in "on" for n in range(1, len(shape.columns) + 1))
        chosen = "shape = ?" if by_key else "+shape = ?"  # the index serves one row; else the order is by number
        sql = f"SELECT image, operation, key, at, {columns} FROM {{home}}actionbus_images WHERE {chosen} AND {where}"
        yield from self._execute(f"{sql} ORDER BY image", (shape.shape, *values))

    def _images(self, found: Sequence[tuple[Shape, Sequence[Any]]]) -> list[Image]:
        """Rows of `_of_shape`, in the order of their numbers."""
        images = [self.at_cut(self._image(shape, row, None)) for shape, row in found]
        ordered = sorted(images, key=lambda each: each.image)
        records = self._records_of([each.image for each in ordered if each.position is None])
        return [each if each.position else each._replace(position=records.get(each.image)) for each in ordered]

    def _image(self, shape: Shape, row: Sequence[Any], position: int | None) -> Image:
        image, operation, key, at = row[:4]
        width = len(shape.columns)
        before = self._told(row[4 : 4 + width]) if operation in "ud" else None
        after = self._told(row[4 + width :]) if operation in "iub" else None
        made = datetime.fromtimestamp(0, UTC) + timedelta(days=at - _DAY_ZERO)
        return Image(image, shape.shape, operation, key, before, after, None, position, made)

    def _records_of(self, images: Sequence[int]) -> dict[int, int]:
        """The position of each image's record, where it has one. The numbers are ascending."""
        found: dict[int, int] = {}
        place = position = 0
        while place < len(images) and (covering := self._range_of(images[place], position)):
            position, after, upto = covering
            end = bisect_right(images, upto, place)
            found |= dict.fromkeys(images[place:end], position)
            # Of the records before it whose ranges lie inside, the earliest has the image: the innermost.
            for inner, low, high, _ in self._inside(position, after):
                found |= dict.fromkeys(
                    images[bisect_right(images, low, place) : bisect_right(images, high, place)], inner
                )
            place = end
        return found

    def _inside(self, position: int, after: int) -> Iterator[Sequence[Any]]:
        """The nested actions' records before a position whose ranges begin at or beyond `after`, latest first."""
        walk = """SELECT position, images_after, images_upto, cause_id FROM {home}journal WHERE position < ?
            AND images_upto IS NOT NULL ORDER BY position DESC"""
        return takewhile(lambda each: each[3] is not None and each[1] >= after, self._execute(walk, (position,)))

    def _range_of(self, image: int, after: int) -> tuple[int, int, int] | None:
        """The record of an image, beyond a position, and its range; by halving where it is far: `images_upto` grows."""
        first = (
            "SELECT position, images_after, images_upto FROM {home}journal WHERE position BETWEEN ? AND ? "
            "AND images_after < ? AND images_upto >= ? ORDER BY position LIMIT 1"
        )
        rows = self.rows_of(first, (after + 1, after + _NEAR, image, image)) if after else ()
        if not rows:
            low, high = 0, self.rows_of("SELECT coalesce(max(position), 0) FROM {home}journal")[0][0]
            while high - low > 1:
                middle = (low + high) // 2
                last = self._last_range(middle)
                low, high = (low, middle) if last and last[2] >= image else (middle, high)
            rows = self.rows_of(first, (high, 2**62, image, image))
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else None

    def rows_of(self, sql: str, parameters: Sequence[Any] = ()) -> list[Sequence[Any]]:
        return list(self._execute(sql, parameters))

    def _execute(self, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        found: sqlite3.Cursor = self._dbapi().execute(sql.replace("{home}", self.prefix), tuple(parameters))
        return found

    def _dbapi(self) -> Any:
        return driver_connection(self.connection)
