"""Folds a batch of records into documents in memory; no store, no database. Used by the feeder and by verification.

Why absorbing a batch twice, or half of it, is harmless: a document of version v holds the effect of every record up to
v, so records at or below v are not folded into it again; a document that a batch left unchanged keeps its version and,
the reducers being pure, is left unchanged again.
"""

from __future__ import annotations

import json
import traceback
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from actionbus.core import Record
from actionbus.projections.projection import RESERVED, Projection, Reducer, keys_of
from actionbus.projections.store import Stored, Write

Load = Callable[[Collection[str]], Mapping[str, Stored]]
_PROBES = 2


class NotAbsorbed(Exception):
    """A reducer broke its contract; the message says how."""


class Poison(NamedTuple):
    """A record that a reducer could not absorb."""

    position: int
    key: str | None
    error: str
    traceback: str


class Folded(NamedTuple):
    """What a batch comes to: documents to write, and the record that it stopped before, if any."""

    writes: list[Write]
    appeared: int
    """How many documents there are more (or fewer) than before."""
    poison: Poison | None


class _Entry:
    """A document in memory: decoded, as JSON text, or both; each is made from the other when it is needed."""

    __slots__ = ("deleted_at", "document", "existed", "exists", "stored_version", "text", "version")

    def __init__(self, stored: Stored | None) -> None:
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
        if self.text is None:
            self.text = orjson.dumps(self.document)
        if self.document is None:
            self.document = orjson.loads(self.text)
        return self.document, self.text

    def become(self, text: bytes | None, record: Record) -> None:
        """Take a new text; None for a deleted document."""
        self.document, self.text, self.exists, self.version = None, text, text is not None, record.position
        self.deleted_at = None if self.exists else record.recorded_at.isoformat()


class Fold:
    """The fold of one projection, or of one slice of it: the keys whose checksum is `part` modulo `parts`."""

    def __init__(self, projection: type[Projection], part: int = 1, parts: int = 1) -> None:
        self._projection = projection()
        self._by_action: dict[str, list[Reducer]] = {}
        for reducer in projection.reducers:
            for action in reducer.rule.actions:
                self._by_action.setdefault(action, []).append(reducer)
        self._everywhere = self._by_action.pop("*", [])
        self._part, self._parts = part - 1, parts
        self._probes: dict[str, int] = {}

    def keys(self, record: Record) -> list[tuple[Reducer, list[str]]]:
        """Which reducers want a record of kind `outcome`, and for which of this slice's documents."""
        wanted = []
        for reducer in (*self._by_action.get(record.action, ()), *self._everywhere):
            if record.status in reducer.rule.statuses and (keys := self._ours(keys_of(reducer.rule, record))):
                wanted.append((reducer, keys))
        return wanted

    def _ours(self, keys: list[str]) -> list[str]:
        if self._parts == 1:
            return keys
        return [key for key in keys if zlib.crc32(key.encode()) % self._parts == self._part]

    def absorb(self, records: Iterable[Record], load: Load, skipped: Collection[int] = ()) -> Folded:
        """Fold records in their order. Errors of `load` are raised; those of reducers are told in the answer."""
        poison: Poison | None = None
        plan: list[tuple[Record, list[tuple[Reducer, list[str]]]]] = []
        for record in records:
            if record.position in skipped:
                continue
            try:
                if wanted := self.keys(record):
                    plan.append((record, wanted))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # such as SystemExit, which would end whoever folds
                poison = _poison(record, None, error)
                break
        keys = dict.fromkeys(key for _, wanted in plan for _, several in wanted for key in several)
        stored = load(keys) if keys else {}
        entries = {key: _Entry(stored.get(key)) for key in keys}
        for record, wanted in plan:
            if failed := self._absorb_one(record, wanted, entries):
                poison = failed
                break
        return Folded(*_writes(entries), poison)

    def _absorb_one(
        self, record: Record, wanted: Sequence[tuple[Reducer, list[str]]], entries: Mapping[str, _Entry]
    ) -> Poison | None:
        """All documents of one record, or none of them."""
        changed: dict[str, bytes | None] = {}
        for reducer, keys in wanted:
            for key in keys:
                entry = entries[key]
                if record.position <= entry.stored_version:
                    continue
                if key in changed:
                    text = changed[key]
                    document = None if text is None else orjson.loads(text)
                else:
                    document, text = entry.both()
                try:
                    new_text = self._reduced(reducer, document, text, record)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    entry.document = None  # it may have been tampered with; the text has not
                    return _poison(record, key, error)
                if new_text != text:
                    changed[key] = new_text
        for key, text in changed.items():
            entries[key].become(text, record)
        return None

    def _reduced(self, reducer: Reducer, document: Any, text: bytes | None, record: Record) -> bytes | None:
        new_text = self._call(reducer, document, text, record)
        if self._probes.setdefault(reducer.name, 0) < _PROBES:
            self._probes[reducer.name] += 1
            again = None if text is None else orjson.loads(text)
            if self._call(reducer, again, text, record) != new_text:
                raise NotAbsorbed(f"{reducer.name} is not pure: it gave two documents for one record")
        return new_text

    def _call(self, reducer: Reducer, document: Any, text: bytes | None, record: Record) -> bytes | None:
        new = reducer.function(self._projection, document, record)
        if text is not None and orjson.dumps(document) != text:
            raise NotAbsorbed(f"{reducer.name} changed the document it was given; it must return a new one")
        if new is document:
            return text
        if new is None:
            return None
        if not isinstance(new, dict):
            raise NotAbsorbed(f"{reducer.name} returned a {type(new).__name__}; a document is a dict, or None")
        if RESERVED in new:
            raise NotAbsorbed(f"{reducer.name} returned a field {RESERVED!r}, which is kept for positions")
        return _as_text(reducer, new)


def _as_text(reducer: Reducer, document: dict[str, Any]) -> bytes:
    """JSON text. What has no place in JSON is refused, also the floats of which orjson makes null."""
    text = orjson.dumps(document)
    if b"null" in text:
        try:
            json.dumps(document, allow_nan=False, default=lambda other: getattr(other, "__dict__", None))
        except ValueError:
            raise NotAbsorbed(f"{reducer.name} returned NaN or Infinity, which JSON does not have") from None
    return text


def _writes(entries: Mapping[str, _Entry]) -> tuple[list[Write], int]:
    """Every document that a record changed, even if a later one changed it back or deleted what was never stored.

    Else a write of another projector that was held up on its way could still arrive, and nothing would outrank it.
    """
    changed = [(key, entry) for key, entry in entries.items() if entry.version]
    appeared = sum(entry.exists - entry.existed for _, entry in changed)
    return [Write(key, entry.version, entry.text, entry.deleted_at) for key, entry in changed], appeared


def _poison(record: Record, key: str | None, error: BaseException) -> Poison:
    shown = "".join(traceback.format_exception(error, limit=-8))
    return Poison(record.position, key, f"{type(error).__name__}: {error}", shown)
