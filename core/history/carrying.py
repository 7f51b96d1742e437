"""The row history out of its database and into another of the same kind. Used by `replay.transfer`.

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

from actionbus.core.history.decoding import shown
from actionbus.core.history.opened import Opened
from actionbus.core.history.recorded import holds
from actionbus.core.history.sqlite import widen
from actionbus.core.history.sqlite_texts import bound, marks
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.history_ddl import IMAGES, SHAPES

_BATCH: Final = 5_000
_BEFORE: Final = 2**48
"""By so much an import lowers numbers of transactions; no cluster comes that far."""
_NUMBER: Final = re.compile(r"-?\d+")
_OWN: Final = 5
"""Of what is told of an image on SQLite, before its values."""
_SHAPE: Final = {
    "sqlite": dict.fromkeys(
        ("shape", "table_name", "columns", "types", "key", "withheld", "numbers", "is_baseline", "since",
         "since_image", "since_position"), ""
    ),
    "postgresql": {
        "shape": "integer", "table_name": "text", "relation": "oid", "columns": "text[]", "types": "text[]",
        "numbers": "smallint[]", "key": "text[]", "withheld": "text[]", "is_baseline": "boolean",
        "is_drifted": "boolean", "since": "timestamptz", "since_image": "bigint", "xid": "bigint",
        "withheld_numbers": "smallint[]",
    },
}  # fmt: skip
"""Columns, and their types where values have to be cast."""
_IMAGE: Final = {
    "image": "bigint", "shape": "integer", "operation": "text", "key": "text", "before": "text", "after": "text",
    "action": "text", "xid": "bigint",
}  # fmt: skip


def shapes_of(opened: Opened) -> Iterator[dict[str, Any]]:
    """The shapes that there were by then, as JSON has them."""
    columns = _SHAPE[opened.images.connection.dialect.name]
    listed = {each.shape for each in opened.shapes if holds(opened.images, each, opened.cut)}
    for row in opened.images.rows_of(f"SELECT {', '.join(columns)} FROM {{home}}{SHAPES} ORDER BY shape"):
        if row[0] in listed:
            told = dict(zip(columns, row, strict=True))
            yield told | {"since": _plain(told["since"])}


def images_of(opened: Opened) -> Iterator[list[Any]]:
    """The images of all records up to there, as JSON has them."""
    for row in opened.images.told(opened.shapes, opened.cut):
        yield [shown(value) for value in row]


def is_empty(backend: Backend, connection: Connection) -> bool:
    """Whether no table was ever recorded."""
    cursor = driver_connection(connection).cursor()
    cursor.execute(f"SELECT count(*) FROM {backend.prefix}{SHAPES}")
    return not cursor.fetchone()[0]


class Bringing:
    """Writes a history into a database that has none, in the transaction of a connection."""

    def __init__(self, backend: Backend, connection: Connection) -> None:
        self._prefix = backend.prefix
        self._dbapi = driver_connection(connection)
        self._is_postgresql = _is_postgresql(connection)
        self._last = 0

    def shapes(self, told: Sequence[dict[str, Any]]) -> None:
        """Before the images."""
        columns = _SHAPE["postgresql" if self._is_postgresql else "sqlite"]
        if not self._is_postgresql:
            widen(self._dbapi, max((len(json.loads(each["columns"])) for each in told), default=0))
        values = ", ".join(f"%s::{kind}" if kind else "?" for kind in columns.values())
        into = f"{self._prefix}{SHAPES}".replace("%", "%%" if self._is_postgresql else "%")
        own = "OVERRIDING SYSTEM VALUE " if self._is_postgresql else ""
        for each in told:
            row = each | ({"xid": older(each["xid"])} if self._is_postgresql else {})
            self._dbapi.cursor().execute(
                f"INSERT INTO {into} ({', '.join(columns)}) {own}VALUES ({values})",
                [row[name] for name in columns],
            )
        if told:
            self._go_on(SHAPES, "shape", max(each["shape"] for each in told))

    def images(self, told: Iterable[list[Any]]) -> None:
        """After the shapes."""
        images = iter(told)
        while batch := list(islice(images, _BATCH)):
            if self._is_postgresql:
                rows = [[*row[:7], older(row[7])] for row in batch]
                insert_many(self._dbapi, f"{self._prefix}{IMAGES}", _IMAGE, rows)
            else:
                self._write_values(batch)
            self._last = max(self._last, *(row[0] for row in batch))

    def go_on(self, upto: int) -> None:
        """Let new images come after all that were written, and after `upto`, which records name."""
        if last := max(self._last, upto):
            self._go_on(IMAGES, "image", last)

    def _write_values(self, batch: Sequence[list[Any]]) -> None:
        for told in batch:
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
    quoted = ", ".join(f'"{name}"' for name in names)
    into = table.replace("%", "%%")
    dbapi.cursor().execute(
        f"INSERT INTO {into} ({quoted}) OVERRIDING SYSTEM VALUE SELECT {values} FROM unnest({given}) t({quoted})",
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
