"""Erases on SQLite, where an erasure that is open lets values be changed. See `history.databases`."""

from __future__ import annotations

import hashlib
import marshal
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.history.decoding import ErasedValue
from actionbus.core.history.erasing import ErasedImages, ImageSides, MarkedImage, SubjectColumns, Value
from actionbus.core.history.shapes import Shape
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.history_ddl import IMAGES
from actionbus.core.storage.names import quoted
from actionbus.core.storage.privacy_ddl import ERASURES, KEYS, TAG_SIZE

_AS_IT_IS: Final = 2
"""The form of `marshal` in which only equal values have equal bytes."""


class SQLiteStore(ErasedImages):
    """Within the transaction of an action, which is the only one that writes."""

    def __init__(self, connection: Connection, prefix: str, subject: str) -> None:
        self._dbapi: Any = driver_connection(connection)
        self._salt = secrets.token_bytes(32)
        self._tag = secrets.token_bytes(TAG_SIZE)
        self._tags = {self._tag, *(tag for (tag,) in self._rows(f"SELECT tag FROM main.{ERASURES}"))}
        self._rows(f"INSERT INTO main.{ERASURES} (subject, tag) VALUES (?, ?)", (subject, self._tag))

    def wait_for_writers(self, shapes: Sequence[Shape]) -> None:
        """There is none: this transaction has the write lock."""

    def naming(self, part: SubjectColumns, subjects: Collection[str]) -> Iterator[ImageSides]:
        assert part.subject is not None
        if part.shape.key == (part.shape.columns[part.subject],):
            yield from self.of_keys(part.shape, [form for each in subjects for form in _stored(each)])
            return
        number = part.subject + 1
        marks = ", ".join("?" * len(subjects))
        spelled = sorted(subjects)
        blobs = [UUID(each).bytes for each in spelled if len(each) == 32] or [b""]
        named = " OR ".join(f"CAST({side}{number} AS TEXT) IN ({marks}) OR {side}{number} = ?" for side in "on")
        yield from self._versions(part.shape, f"({named})", [*spelled, blobs[0]] * 2)

    def of_keys(self, shape: Shape, keys: Collection[Any]) -> Iterator[ImageSides]:
        for key in keys:
            yield from self._versions(shape, "key = ?", [key])

    def _versions(self, shape: Shape, where: str, values: Sequence[Any]) -> Iterator[ImageSides]:
        width = len(shape.columns)
        columns = ", ".join(f"{side}{n}" for side in "on" for n in range(1, width + 1))
        factory, self._dbapi.text_factory = self._dbapi.text_factory, _text
        try:
            rows = self._rows(
                f"SELECT image, operation, key, {columns} FROM main.{IMAGES} WHERE shape = ? AND {where}",
                (shape.shape, *values),
            )
        finally:
            self._dbapi.text_factory = factory
        for image, operation, key, *held in rows:
            before = self._told(held[:width]) if operation in "ud" else None
            after = self._told(held[width:]) if operation in "iub" else None
            yield ImageSides(image, key, before, after)

    def _told(self, row: Sequence[Value]) -> list[Value]:
        return [
            ErasedValue(each[TAG_SIZE:].hex()) if isinstance(each, bytes) and each[:TAG_SIZE] in self._tags else each
            for each in row
        ]

    def erase(self, part: SubjectColumns, marked: Sequence[MarkedImage]) -> int:
        for version, before, after in marked:
            sides = [("o", version.before)] * before + [("n", version.after)] * after
            new = {
                f"{side}{place + 1}": self._stand_in(row[place])
                for side, row in sides
                for place in part.places
                if row is not None and row[place] is not None and not isinstance(row[place], ErasedValue)
            }
            sets = ", ".join(f"{name} = ?" for name in new)
            self._rows(f"UPDATE main.{IMAGES} SET {sets} WHERE image = ?", (*new.values(), version.image))
        return len(marked)

    def _stand_in(self, value: Value) -> bytes:
        return self._tag + hashlib.sha256(self._salt + marshal.dumps(value, _AS_IT_IS)).digest()

    def standing(self, table: str, subject: str, columns: Iterable[str], subjects: Collection[str]) -> int:
        names = {row[1] for row in self._rows(f"PRAGMA main.table_info({quoted(table)})")}
        held = [f"{quoted(each)} IS NOT NULL" for each in columns if each in names]
        if subject not in names or not held:
            return 0
        marks = ", ".join("?" * len(subjects))
        sql = (
            f"SELECT count(*) FROM main.{quoted(table)} WHERE CAST({quoted(subject)} AS TEXT) IN ({marks}) "
            f"AND ({' OR '.join(held)})"
        )
        return int(self._rows(sql, sorted(subjects))[0][0])

    def forget(self, subject: str) -> int:
        found = self._rows(f"SELECT DISTINCT key_id FROM main.{KEYS} WHERE subject = ?", (subject,))
        for key in found:
            self._rows(f"DELETE FROM main.{KEYS} WHERE key_id = ?", key)
        return len(found)

    def close(self) -> None:
        self._rows(f"UPDATE main.{ERASURES} SET is_open = 0 WHERE tag = ?", (self._tag,))

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        cursor = self._dbapi.cursor()
        cursor.row_factory = None
        return list(cursor.execute(sql, tuple(values)).fetchall())


def _stored(subject: str) -> list[Any]:
    """How a subject may be stored as a key: as text, a number, or an UUID's bytes."""
    is_number = subject.isascii() and subject.lstrip("-").isdigit()
    return [subject, *([int(subject)] if is_number else []), *([UUID(subject).bytes] if len(subject) == 32 else [])]


def _text(stored: bytes) -> str:
    return stored.decode(errors="surrogateescape")
