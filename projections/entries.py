"""Entry, a document in memory while records are folded into it; how entries are loaded, and what is written of them.

The fold works on them. What is loaded at a time is bounded by documents and, as far as can be told, by their bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from orjson import dumps, loads

from actionbus.core import Record
from actionbus.projections.store import StoredDocument, Write

Load = Callable[[Collection[str]], Mapping[str, StoredDocument]]
_FIRST_PAGE, _PAGE = 100, 2_000
"""Documents that are loaded at a time, first and at most: how big they are is known from those before."""
_WEIGHED = 8


class Room(NamedTuple):
    """What may be in memory at a time, or a page of documents more."""

    documents: int
    bytes: int
    """Of documents as they are stored, about; and so many more of what becomes of them."""


class Entry:
    """A document in memory: decoded, as JSON text, or both; each is made from the other when it is needed."""

    __slots__ = ("deleted_at", "document", "existed", "exists", "stored_version", "text", "version")

    def __init__(self, stored: StoredDocument | None) -> None:
        self.stored_version = stored.version if stored else 0
        self.document = stored.document if stored else None
        self.existed = self.exists = self.document is not None
        self.text: bytes | None = None
        self.version = 0
        self.deleted_at: str | None = None

    def both(self) -> tuple[Any, bytes | None]:
        """The document and its text; None and None where there is none."""
        if not self.exists:
            return None, None
        text = self.text
        if text is None:
            text = self.text = dumps(self.document)
        if self.document is None:
            self.document = loads(text)
        return self.document, text

    def become(self, text: bytes | None, record: Record) -> None:
        """Take a new text; None for a deleted document."""
        self.document, self.text, self.exists, self.version = None, text, text is not None, record.position
        self.deleted_at = None if self.exists else record.recorded_at.isoformat()


def pages(keys: Iterable[str], load: Load, room: Room) -> Iterator[tuple[list[str], Mapping[str, StoredDocument], int]]:
    """Some keys at a time, with what is stored of them and about how many bytes that has: an eighth of the room."""
    wanted, at, page = list(keys), 0, min(_FIRST_PAGE, room.documents)
    while at < len(wanted):
        part = wanted[at : at + page]
        stored = load(part)
        # Their texts are made for this alone, so only of a few.
        some = list(stored.values())[:: 1 + len(stored) // _WEIGHED]
        weight = sum(len(dumps(each.document or {})) for each in some) / max(1, len(some))
        yield part, stored, int(weight * len(stored))
        at += len(part)
        page = max(1, int(min(_PAGE, room.documents, room.bytes / 8 / max(1.0, weight))))


def loaded(keys: Mapping[str, None], load: Load, room: Room | None) -> dict[str, Entry]:
    """The documents, in the order of the keys, as many as there is room for."""
    if not room:
        stored = load(keys) if keys else {}
        return {key: Entry(stored.get(key)) for key in keys}
    entries, size = dict[str, Entry](), 0
    for part, stored, weight in pages(keys, load, room):
        entries |= {key: Entry(stored.get(key)) for key in part}
        size += weight
        if size >= room.bytes:
            break
    return entries


def growth(text: bytes | None, new_text: bytes | None) -> int:
    """How many bytes more a document has."""
    return (0 if new_text is None else len(new_text)) - (0 if text is None else len(text))


def writes_of(entries: Mapping[str, Entry]) -> tuple[list[Write], int, int]:
    """Every document that a record changed, even if a later one changed it back or deleted what was never stored; how
    many documents there are more (or fewer) than before; how much greater (or less) the sum of their versions is.

    Else a write of another projector that was held up on its way could still arrive, and nothing would outrank it.
    """
    changed = [(key, entry) for key, entry in entries.items() if entry.version]
    appeared = sum(entry.exists - entry.existed for _, entry in changed)
    versions = sum(entry.exists * entry.version - entry.existed * entry.stored_version for _, entry in changed)
    return [Write(key, entry.version, entry.text, entry.deleted_at) for key, entry in changed], appeared, versions
