"""Images written by hand, as triggers would write them, in whatever order a test wants."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from actionbus import Bus, History
from actionbus.core.history.decoding import row_text
from tests.copies import copied
from tests.shop.app import make_application


def create(url: URL) -> None:
    """A journal alone."""
    with Bus(make_application(), url) as bus:
        bus.journal.create()


class Book:
    """A journal with a row history that a test writes."""

    def __init__(self, url: URL) -> None:
        self.bus = Bus(make_application(), url)
        if not (copied(url, "journal", create) or self.bus.journal.exists()):
            self.bus.journal.create()
        self.history: History = self.bus.history
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")
        self._connection = self._engine.connect()
        self._shapes: dict[int, tuple[str, ...]] = {}
        self._keys: dict[int, tuple[str, ...]] = {}
        self._wide = 0

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()
        self.bus.close()

    def shape(
        self,
        table: str,
        columns: str,
        key: str = "id",
        *,
        is_baseline: bool = False,
        xid: int = 0,
        withheld: str = "",
        numbers: tuple[int, ...] = (),
    ) -> int:
        """A shape of text columns, but for `id`, which is a number. `columns` and `key` are names with spaces between."""
        names, keys = tuple(columns.split()), tuple(key.split())
        types = ["integer" if each == "id" else "text" for each in names]
        lists = [list(names), types, list(keys), withheld.split()]
        if self.is_sqlite:
            for number in range(self._wide + 1, len(names) + 1):
                self._run(f"ALTER TABLE actionbus_images ADD COLUMN o{number}")
                self._run(f"ALTER TABLE actionbus_images ADD COLUMN n{number}")
            self._wide = max(self._wide, len(names))
            values = (table, *map(json.dumps, lists), is_baseline, self.last(), self.position())
            columns_ = "table_name, columns, types, key, withheld, is_baseline, since_image, since_position"
            marks = ", ".join("?" * len(values))
        else:
            places = list(numbers) or [1 + sum(map(ord, each)) for each in names]
            values = (f"public.{table}", *lists, is_baseline, self.last(), places, xid)
            columns_ = "table_name, columns, types, key, withheld, is_baseline, since_image, numbers, xid, relation"
            marks = ", ".join(["%s"] * 9 + ["0"])
        found: int = self._run(f"INSERT INTO actionbus_shapes ({columns_}) VALUES ({marks}) RETURNING shape", values)[
            0
        ][0]
        self._shapes[found], self._keys[found] = names, keys
        return found

    def image(
        self,
        shape: int,
        before: tuple[Any, ...] | None,
        after: tuple[Any, ...] | None,
        *,
        operation: str | None = None,
        action: UUID | None = None,
        xid: int = 0,
    ) -> int:
        """An image; its number. What happened is told by which sides there are."""
        operation = operation or {(True, False): "i", (True, True): "u", (False, True): "d"}.get(
            (after is not None, before is not None), "!"
        )
        names = self._shapes[shape]
        parts = [(after or before or ())[names.index(each)] for each in self._keys[shape]] if after or before else []
        if self.is_sqlite:
            key = parts[0] if len(parts) == 1 else ",".join(map(_quoted, parts)) or None
            sides = [*(before or [None] * len(names)), *(after or [None] * len(names))]
            columns = ", ".join(f"{side}{n}" for side in "on" for n in range(1, len(names) + 1))
            marks = ", ".join("?" * len(sides))
            sql = f"INSERT INTO actionbus_images (shape, operation, key, at, {columns}) VALUES (?, ?, ?, julianday('now'), {marks}) RETURNING image"
            values: tuple[Any, ...] = (shape, operation, key, *sides)
        else:
            sql = "INSERT INTO actionbus_images (shape, operation, key, before, after, action, xid) VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING image"
            key = _text(parts) if parts else None
            values = (shape, operation, key, _text(before), _text(after), action.hex if action else None, xid)
        return int(self._run(sql, values)[0][0])

    def nameless(self, xid: int) -> None:
        """An image that says only that some table's row was changed."""
        sql = "INSERT INTO actionbus_images (shape, operation, xid) VALUES (0, '!', %s)"
        self._run(sql, (xid,))

    def record(
        self,
        kind: str = "outcome",
        action_id: UUID | None = None,
        *,
        xid: int = 0,
        seen: str | None = None,
        after: int | None = None,
        upto: int | None = None,
        cause: UUID | None = None,
        context: str = '{"user": "eve"}',
    ) -> int:
        """A record; its position. On SQLite it covers the images beyond `after`."""
        own = action_id or uuid4()
        status, name = ("succeeded", "change") if kind == "outcome" else (None, "")
        common = "action_id, kind, status, action, actor, correlation_id, cause_id, context"
        ids = (own.hex, cause.hex if cause else None) if self.is_sqlite else (str(own), str(cause) if cause else None)
        values = [
            ids[0],
            kind,
            status,
            name,
            "ann" if status else None,
            "c",
            ids[1],
            None if status else context,
        ]
        if self.is_sqlite:
            upto = self.last() if upto is None else upto
            columns, values = f"{common}, images_after, images_upto", [*values, after or 0, upto]
        else:
            columns, values = f"{common}, xid, seen", [*values, xid, seen]
        mark = ", ".join(["?" if self.is_sqlite else "%s"] * len(values))
        return int(
            self._run(f"INSERT INTO journal ({columns}) VALUES ({mark}) RETURNING position", tuple(values))[0][0]
        )

    def last(self) -> int:
        """The last image's number."""
        return int(self._run("SELECT coalesce(max(image), 0) FROM actionbus_images")[0][0])

    def position(self) -> int:
        """The last record's; the moments of two records may be the same."""
        return int(self._run("SELECT coalesce(max(position), 0) FROM journal")[0][0])

    def state(self, table: str, at: int | None = None) -> list[dict[str, Any]]:
        """The rows of a table, in a fixed order."""
        found = self.history.state(table, at).tables
        return sorted(next(iter(found.values())), key=repr)

    def _run(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        result = self._connection.exec_driver_sql(sql, values)
        return list(result) if result.returns_rows else []


def _quoted(value: Any) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _text(values: Any) -> str | None:
    return None if values is None else row_text([None if each is None else str(each) for each in values])


def found(book: Book, condition: str) -> int | None:
    """The position since which there is such an item."""
    source = book.history.bisect(f"SELECT EXISTS (SELECT 1 FROM items WHERE {condition})").source
    return source and source.position


HOSTILE = ["a,b", ",", "a, b", "a/b", '"a","b"', "a:b", "..", "a?b#c", "%2C", "(a)", "5", " 5", "a\\,b", "é"]
"""Keys of rows."""


def with_hostile_keys(book: Book) -> Book:
    """The book with a table whose key is such a text, and one whose key has two columns."""
    one, two = book.shape("goods", "code price", key="code"), book.shape("places", "id code price", key="id code")
    three = book.shape("shelves", "id code price", key="id code")
    for number, code in enumerate(HOSTILE):
        mark = book.last()
        book.image(one, None, (code, str(number)), xid=8 + number)
        book.image(two, None, (number, "x", str(number)), xid=8 + number)
        book.image(three, None, (number, code, str(number)), xid=8 + number)
        book.record(xid=8 + number, after=mark)
    return book
