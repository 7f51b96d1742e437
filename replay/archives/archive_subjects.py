"""Looks for one subject in the row images of an archive, which no erasure reaches. For `actionbus history erase`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from actionbus.core import Bus
from actionbus.core.history.databases import database_of
from actionbus.core.history.declared import read_declared
from actionbus.core.history.decoding import ErasedValue, fields_of
from actionbus.core.history.erasing import (
    SubjectColumns,
    by_naming,
    holds_values,
    names,
    names_nobody,
    part_of,
    spellings,
)
from actionbus.core.history.fold import by_table
from actionbus.core.storage.privacy_ddl import ERASURES, TAG_SIZE
from actionbus.replay.archives.folders import JOURNAL
from actionbus.replay.archives.lines import kind_of, lines_of

_OWN: Final = 5
"""Of what is told of an image on SQLite, before its values."""
Row = Sequence[Any]


class SubjectFound(NamedTuple):
    """How many images of an archive hold personal values."""

    named: int
    """Of the subject: they name him, or name nobody and are of a row that names him elsewhere in the archive."""
    unnamed: int
    """They name nobody: the subject's, if their row names him beyond this archive."""


class SubjectSearch:
    """Looks for one subject in archives of a database."""

    def __init__(self, bus: Bus, subject: object) -> None:
        self._wanted = spellings(str(subject))
        self._is_postgresql = bus.journal.dialect == "postgresql"
        backend = bus.backend
        with backend.connection() as connection, backend.placed(connection):
            declared = read_declared(connection, backend.prefix)
            shapes = by_table(database_of(connection).shapes(connection, backend.prefix))
        self._parts: dict[int, list[SubjectColumns]] = {}
        for table, kept in declared.items():
            for named, columns in by_naming(kept.personal).items():
                for shape in shapes.get(table, ()):
                    self._parts.setdefault(shape.shape, []).append(part_of(shapes[table], shape, named, columns))

    def look(self, folder: Path) -> SubjectFound:
        """What an archive has of the subject. Raises ReplayError for one that cannot be read."""
        path = folder / JOURNAL
        rows_of_his = {
            (part.shape.table_name, repr(key))
            for part, key, rows in self._versions(path)
            if part.shape.key and any(names(part, row, self._wanted) for row in rows)
        }
        named = unnamed = 0
        for part, key, rows in self._versions(path):
            is_his = (part.shape.table_name, repr(key)) in rows_of_his
            held = [row for row in rows if holds_values(part, row)]
            if any(names(part, row, self._wanted) or (is_his and names_nobody(part, row)) for row in held):
                named += 1
            elif any(names_nobody(part, row) for row in held):
                unnamed += 1
        return SubjectFound(named, unnamed)

    def _versions(self, path: Path) -> Iterator[tuple[SubjectColumns, Any, list[Row]]]:
        """Of each image with personal columns whose they are, its row's key, and the row before and after."""
        lines = lines_of(path)
        next(lines)
        tags: set[bytes] = set()
        for line in lines:
            kind = kind_of(line)
            if kind == "privacy" and line["privacy"] == ERASURES and "tag" in line:
                tags.add(bytes.fromhex(line["tag"]))
            elif kind == "image" and (parts := self._parts.get(line[1])):
                rows = self._rows(line, tags)
                for part in parts:
                    yield part, line[3], rows

    def _rows(self, line: Sequence[Any], tags: set[bytes]) -> list[Row]:
        if self._is_postgresql:
            return [fields_of(each) for each in line[4:6] if each is not None]
        values = [_told(each, tags) for each in line[_OWN:]]
        return ([values[0::2]] if line[2] in "ud" else []) + ([values[1::2]] if line[2] in "iub" else [])


def _told(value: Any, tags: set[bytes]) -> Any:
    """A value as it was stored on SQLite."""
    if isinstance(value, Mapping) and "$bytes" in value:
        stored = bytes.fromhex(value["$bytes"])
        return ErasedValue(stored[TAG_SIZE:].hex()) if stored[:TAG_SIZE] in tags else stored
    return value
