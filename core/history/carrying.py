"""The row history out of its database and into another of the same kind. Used by `replay.archives.transfer`.

Numbers of images and shapes stay, since records name them. On PostgreSQL numbers of transactions do not: another
cluster goes on with its own, and an old one that comes again would make an image another record's. So what is imported
gets numbers below all that a cluster gives, each import below the one before it, images and records alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection

from actionbus.core.errors import HistoryError
from actionbus.core.history.decoding import shown
from actionbus.core.history.opened import OpenedPosition
from actionbus.core.history.recorded import holds
from actionbus.core.history.sqlite import widen
from actionbus.core.history.sqlite_texts import bound, marks
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.history_ddl import IMAGES, SHAPES
from actionbus.core.storage.names import quoted

_BATCH: Final = 5_000
_BEFORE: Final = 2**48
"""By so much an import lowers numbers of transactions; no cluster comes that far."""
_NUMBER: Final = re.compile(r"-?\d+")
_OWN: Final = 5
"""Of what is told of an image on SQLite, before its values."""
_IMAGE: Final = {
    "image": "bigint",
    "shape": "integer",
    "operation": "text",
    "key": "text",
    "before": "text",
    "after": "text",
    "action": "text",
    "xid": "bigint",
}


def shapes_of(opened: OpenedPosition) -> Iterator[dict[str, Any]]:
    """The shapes that there were by then, as JSON has them."""
    images = opened.images
    columns = _columns_of_shapes(driver_connection(images.connection), images.prefix, _is_postgresql(images.connection))
    listed = {each.shape for each in opened.shapes if holds(images, each, opened.cut)}
    for row in images.rows_of(f"SELECT {', '.join(map(quoted, columns))} FROM {{home}}{SHAPES} ORDER BY shape"):
        told = {name: _plain(value) for name, value in zip(columns, row, strict=True)}
        if told["shape"] in listed:
            yield told


def images_of(opened: OpenedPosition) -> Iterator[list[Any]]:
    """The images of all records up to there, as JSON has them."""
    for row in opened.images.told(opened.shapes, opened.cut):
        yield [shown(value) for value in row]


def is_empty(backend: Backend, connection: Connection) -> bool:
    """Whether no table was ever recorded."""
    cursor = driver_connection(connection).cursor()
    cursor.execute(f"SELECT count(*) FROM {backend.prefix}{SHAPES}")
    return not cursor.fetchone()[0]


class Bringing:
    """Writes a history into a database that has none, in the transaction of a connection.

    With `is_own` it is this database's, and numbers of transactions stay.
    """

    def __init__(self, backend: Backend, connection: Connection, *, is_own: bool = False) -> None:
        self._is_own = is_own
        self._prefix = backend.prefix
        self._dbapi = driver_connection(connection)
        self._is_postgresql = _is_postgresql(connection)
        self._last = 0
        self._widths: dict[int, int] = {}
        """SQLite: by shape, how many columns its images have."""

    def shapes(self, told: Sequence[dict[str, Any]]) -> None:
        """What tables looked like: goes before the images."""
        here = _columns_of_shapes(self._dbapi, self._prefix, self._is_postgresql)
        if unknown := [name for each in told for name in each if name not in here]:
            raise HistoryError(
                f"what is to be imported says {unknown[0]} of tables, for which this database has no place: upgrade it "
                "(`actionbus db upgrade`), with the version that wrote the file or a later one"
            )
        if not self._is_postgresql:
            self._widths |= {each["shape"]: len(json.loads(each["columns"])) for each in told}
            widen(self._dbapi, max(self._widths.values(), default=0))
        into = f"{self._prefix}{SHAPES}".replace("%", "%%" if self._is_postgresql else "%")
        own = "OVERRIDING SYSTEM VALUE " if self._is_postgresql else ""
        for each in told:
            row = each | ({"xid": older(each["xid"])} if self._is_postgresql else {})
            values = ", ".join(f"%s::{here[name]}" if self._is_postgresql else "?" for name in row)
            self._dbapi.cursor().execute(
                f"INSERT INTO {into} ({', '.join(map(quoted, row))}) {own}VALUES ({values})", list(row.values())
            )
        if told:
            self._go_on(SHAPES, "shape", max(each["shape"] for each in told))

    def images(self, told: Iterable[list[Any]]) -> None:
        """Row images, which need their shapes: goes after them."""
        images = iter(told)
        while batch := list(islice(images, _BATCH)):
            if self._is_postgresql:
                rows = [[*row[:7], row[7] if self._is_own else older(row[7])] for row in batch]
                insert_many(self._dbapi, f"{self._prefix}{IMAGES}", _IMAGE, rows)
            else:
                self._write_values(batch)
            self._last = max(self._last, *(row[0] for row in batch))

    def put_back(self, told: Sequence[list[Any]]) -> None:
        """Make images that became the baseline at the cut of an archive what they were."""
        table = f"{self._prefix}{IMAGES}".replace("%", "%%" if self._is_postgresql else "%")
        for row in told:
            if self._is_postgresql:
                number, shape, operation, key, before = row[:5]
                self._dbapi.cursor().execute(
                    f"UPDATE {table} SET operation = %s, before = %s "
                    f"WHERE shape = %s AND key {'IS NULL' if key is None else '= %s'} AND image = %s",
                    [operation, before, shape, *([] if key is None else [key]), number],
                )
            else:
                values = [_stored(each) for each in row[_OWN::2]]
                sets = "".join(f", o{n} = {marks([value])}" for n, value in enumerate(values, 1))
                sql = f"UPDATE {table} SET operation = ?{sets} WHERE image = ?"
                self._dbapi.execute(sql, [row[2], *values, row[0]])

    def go_on(self, upto: int) -> None:
        """Let new images come after all that were written, and after `upto`, which records name."""
        if last := max(self._last, upto):
            self._go_on(IMAGES, "image", last)

    def _write_values(self, batch: Sequence[list[Any]]) -> None:
        for told in batch:
            if not self._is_own and len(told) != _OWN + 2 * self._widths.get(told[1], -_OWN):
                raise HistoryError(f"image {told[0]} has not the columns of its shape {told[1]}, or that is not there")
            row = [_stored(each) for each in told]
            columns = ", ".join(f"o{n}, n{n}" for n in range(1, (len(row) - _OWN) // 2 + 1))
            own = f"image, shape, operation, key, at{', ' if columns else ''}{columns}"
            self._dbapi.execute(f"INSERT INTO {self._prefix}{IMAGES} ({own}) VALUES ({marks(row)})", row)

    def _go_on(self, table: str, column: str, last: int) -> None:
        cursor = self._dbapi.cursor()
        if self._is_postgresql:
            name = f"{self._prefix}{table}"
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", (name, column, last))
        elif table == IMAGES:
            cursor.execute("DELETE FROM main.sqlite_sequence WHERE name = ?", (table,))
            cursor.execute("INSERT INTO main.sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))


def _columns_of_shapes(dbapi: Any, prefix: str, is_postgresql: bool) -> dict[str, str]:
    """With their types on PostgreSQL. All there are, so that what a later version adds is carried too."""
    cursor = dbapi.cursor()
    if is_postgresql:
        cursor.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass "
            "AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (f"{prefix}{SHAPES}",),
        )
        return dict(cursor.fetchall())
    return {row[1]: "" for row in cursor.execute(f"PRAGMA {prefix}table_info({SHAPES})").fetchall()}


def older(xid: int | None) -> int | None:
    """The number of a transaction of another cluster: below all that this one gives."""
    return None if xid is None else xid - _BEFORE


def older_snapshot(seen: str | None) -> str | None:
    """The same in the text of a snapshot. One of SQLite is a position."""
    if seen is None or ":" not in seen:
        return seen
    return _NUMBER.sub(lambda number: str(older(int(number[0]))), seen)


def insert_many(dbapi: Any, table: str, columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows into a table on PostgreSQL in one statement; `columns` gives each one's type."""
    names = list(columns)
    given = ", ".join(f"%s::{'text' if columns[name] == 'json' else columns[name]}[]" for name in names)
    values = ", ".join(f't."{name}"::json' if columns[name] == "json" else f't."{name}"' for name in names)
    listed = ", ".join(map(quoted, names))
    into = table.replace("%", "%%")
    dbapi.cursor().execute(
        f"INSERT INTO {into} ({listed}) OVERRIDING SYSTEM VALUE SELECT {values} FROM unnest({given}) t({listed})",
        [list(column) for column in zip(*rows, strict=True)],
    )


def _stored(value: Any) -> Any:
    """What `decoding.shown` made JSON of."""
    if isinstance(value, dict):
        (tag, held), *_ = value.items()
        return bytes.fromhex(held) if tag == "$bytes" else float(held)
    return bound(value)


def _plain(moment: Any) -> Any:
    return moment.isoformat() if isinstance(moment, datetime) else moment


def _is_postgresql(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"
