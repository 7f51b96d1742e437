"""FoldedDocuments: a fold of the journal kept in a temporary file, so that it may be greater than memory.

Used by verification. The file has no name, so nothing of it is left, however the process ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from orjson import loads

from actionbus.projections.store import StoredDocument, Write

_TABLES: Final = """
CREATE TABLE documents (key TEXT PRIMARY KEY, version INTEGER NOT NULL, text BLOB, seen INTEGER NOT NULL DEFAULT 0);
CREATE TABLE suspects (key TEXT PRIMARY KEY);
"""
_UPSERT: Final = """INSERT INTO documents (key, version, text) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET version = excluded.version, text = excluded.text"""
_PAGE: Final = 500
_CACHE_KIB: Final = 64_000


class FoldedDocuments:
    """Documents by key, each with its version and JSON text; beside them, which are to be looked at again."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("", isolation_level=None)  # "" is a file that is deleted as soon as it is opened
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._file.executescript(_TABLES)

    def close(self) -> None:
        """Let go of the file that the documents lie in."""
        self._file.close()

    def put(self, writes: Iterable[Write]) -> None:
        """Take documents as they are now."""
        self._file.execute("BEGIN")
        self._file.executemany(_UPSERT, ((each.key, each.version, each.text) for each in writes))
        self._file.execute("COMMIT")

    def texts(self, keys: Collection[str]) -> dict[str, tuple[int, bytes | None]]:
        """The version and text of each that there is; no text where it was deleted."""
        found: dict[str, tuple[int, bytes | None]] = {}
        for page in _pages(keys):
            marks = ", ".join("?" * len(page))
            rows = self._file.execute(f"SELECT key, version, text FROM documents WHERE key IN ({marks})", page)
            found |= {key: (version, text) for key, version, text in rows}
        return found

    def load(self, keys: Collection[str]) -> Mapping[str, StoredDocument]:
        """The same as a fold wants them."""
        found = self.texts(keys).items()
        return {key: StoredDocument(version, None if text is None else loads(text)) for key, (version, text) in found}

    def see(self, keys: Collection[str]) -> None:
        """Note that they are in the index, too."""
        for page in _pages(keys):
            self._file.execute(f"UPDATE documents SET seen = 1 WHERE key IN ({', '.join('?' * len(page))})", page)

    def suspect(self, keys: Iterable[str]) -> None:
        """Note that they are to be looked at again."""
        self._file.executemany("INSERT OR IGNORE INTO suspects VALUES (?)", ((key,) for key in keys))

    def suspect_the_unseen(self) -> int:
        """The same for all that are documents here and were not seen in the index; how many."""
        unseen = "FROM documents WHERE text IS NOT NULL AND seen = 0"
        self._file.execute(f"INSERT OR IGNORE INTO suspects SELECT key {unseen}")
        return int(self._file.execute(f"SELECT count(*) {unseen}").fetchone()[0])

    def keys(self) -> Iterator[str]:
        """Those of all that were ever documents here, in their order."""
        return self._in_order("documents")

    def suspects(self) -> Iterator[str]:
        """Those that are to be looked at again, in their order."""
        return self._in_order("suspects")

    def count_suspects(self) -> int:
        """How many documents may differ and are looked at again."""
        return int(self._file.execute("SELECT count(*) FROM suspects").fetchone()[0])

    def _in_order(self, table: str) -> Iterator[str]:
        after = ""
        while page := self._file.execute(
            f"SELECT key FROM {table} WHERE key > ? ORDER BY key LIMIT {_PAGE}", (after,)
        ).fetchall():
            yield from (key for (key,) in page)
            after = page[-1][0]


def _pages(keys: Collection[str]) -> Iterator[list[str]]:
    wanted = list(keys)
    for start in range(0, len(wanted), _PAGE):
        yield wanted[start : start + _PAGE]
