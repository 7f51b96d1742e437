"""Folds a batch of records into documents in memory; no store, no database. Used by the feeder and by verification.

Why absorbing a batch twice, or half of it, is harmless: a document of version v holds the effect of every record up to
v, so records at or below v are not folded into it again; a document that a batch left unchanged keeps its version and,
the reducers being pure, is left unchanged again.
"""

from __future__ import annotations

import json
import math
import traceback
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from orjson import dumps, loads

from actionbus.core import Record
from actionbus.projections.errors import ProjectionStopped, shortened
from actionbus.projections.projection import (
    RESERVED,
    SHORT_KEY,
    STATUSES,
    Projection,
    Reducer,
    as_keys,
    finder,
    keys_of,
)
from actionbus.projections.store import StoredDocument, Write

Load = Callable[[Collection[str]], Mapping[str, StoredDocument]]
_PROBES = 2
_FIRST_PAGE, _PAGE = 100, 2_000
"""Documents that are loaded at a time, first and at most: how big they are is known from those before."""
_WEIGHED = 8
_NONE: list[Reducer] = []


class BrokenReducer(Exception):
    """A reducer broke its contract; the message says how."""


class Poison(NamedTuple):
    """A record that a reducer could not absorb."""

    position: int
    key: str | None
    error: str
    traceback: str


class Room(NamedTuple):
    """What may be in memory at a time, or one record's part more."""

    documents: int
    bytes: int
    """Of documents as they are stored, about."""


class FoldResult(NamedTuple):
    """What a batch comes to: documents to write, and the record that it stopped before, if any."""

    writes: list[Write]
    appeared: int
    """How many documents there are more (or fewer) than before."""
    versions: int
    """How much greater (or less) the sum of the documents' versions is."""
    poison: Poison | None
    beyond: int | None = None
    """The position of the first record that was left for another time, since there was no room for its documents."""


class _FoldedDocument:
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


def slice_of(key: str, slices: int) -> int:
    """Which of so many slices of an index a document is in, from 0 on."""
    return zlib.crc32(key.encode()) % slices if slices > 1 else 0


class Fold:
    """The fold of one projection, or of one slice of it: the keys whose checksum is `part` modulo `parts`."""

    def __init__(self, projection: type[Projection], part: int = 1, parts: int = 1) -> None:
        self._projection = projection()
        everywhere = [reducer for reducer in projection.reducers if "*" in reducer.rule.actions]
        self._everywhere: dict[str | None, list[Reducer]] = {each: _of_status(everywhere, each) for each in STATUSES}
        self._by_action: dict[tuple[str, str | None], list[Reducer]] = {}
        for action in {action for reducer in projection.reducers for action in reducer.rule.actions} - {"*"}:
            named = [reducer for reducer in projection.reducers for each in reducer.rule.actions if each == action]
            for status in STATUSES:
                self._by_action[action, status] = _of_status([*named, *everywhere], status)
        self._part, self._parts = part - 1, parts
        self._sole: dict[tuple[str, str | None], tuple[Reducer, Callable[[Record], Any]]] = {}
        """The reducer of a record, and what finds its keys, where there is one alone, as of most; empty where a key may
        be somebody else's."""
        if parts == 1 and type(self).keys is Fold.keys:
            alone = ((which, reducers[0]) for which, reducers in self._by_action.items() if len(reducers) == 1)
            self._sole = {which: (reducer, finder(reducer.rule)) for which, reducer in alone}
        self._probes: dict[str, int] = {}
        self._probed: set[str] = set()

    def keys(self, record: Record) -> list[tuple[Reducer, list[str]]]:
        """Which reducers want a record of kind `outcome`, and for which of this slice's documents."""
        status = record.status
        reducers = self._by_action.get((record.action, status))
        if reducers is None:
            reducers = self._everywhere.get(status, _NONE)
        wanted = []
        for reducer in reducers:
            keys = keys_of(reducer.rule, record)
            if self._parts > 1:
                keys = [key for key in keys if slice_of(key, self._parts) == self._part]
            if keys:
                wanted.append((reducer, keys))
        return wanted

    def absorb(
        self, records: Iterable[Record], load: Load, skipped: Collection[int] = (), room: Room | None = None
    ) -> FoldResult:
        """Fold records in their order, as many as there is room for, at least one. Errors of `load` are raised; those
        of reducers are told in the answer."""
        poison: Poison | None = None
        beyond: int | None = None
        alone: list[tuple[Record, Reducer, str] | None] = []
        several: list[tuple[Record, list[tuple[Reducer, list[str]]]]] = []
        keys: dict[str, None] = {}
        sole, most = self._sole, room.documents if room else math.inf
        for record in records:
            if record.position in skipped:
                continue
            if len(keys) >= most:
                beyond = record.position
                break
            try:
                if (by := sole.get((record.action, record.status))) is None:
                    wanted = self.keys(record)
                elif type(key := by[1](record)) is str and 0 < len(key) <= SHORT_KEY:
                    keys[key] = None
                    alone.append((record, by[0], key))
                    continue
                else:
                    wanted = [(by[0], found)] if (found := as_keys(key)) else []
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # such as SystemExit, which would end whoever folds
                poison = _poison(record, None, error)
                break
            if len(wanted) == 1 and len(wanted[0][1]) == 1:
                reducer, (key,) = wanted[0]
                keys[key] = None
                alone.append((record, reducer, key))
            elif wanted:
                keys |= dict.fromkeys(key for _, each in wanted for key in each)
                alone.append(None)
                several.append((record, wanted))
        entries = _loaded(keys, load, room, 1 if alone and alone[0] else _of_the_first(several))
        if len(entries) < len(keys):
            beyond, poison = _cut(alone, several, entries), None
        if failed := self._absorb_all(alone, several, entries):
            poison, beyond = failed, None  # it comes before all that there was no room for
        return FoldResult(*_writes(entries), poison, beyond)

    def _absorb_all(
        self,
        alone: Iterable[tuple[Record, Reducer, str] | None],
        several: Iterable[tuple[Record, list[tuple[Reducer, list[str]]]]],
        entries: Mapping[str, _FoldedDocument],
    ) -> Poison | None:
        """All that is planned, in its order. What is about one document, as most records are, is done here: it is as
        `_absorb_one` would, in less time."""
        left, probed, projection = iter(several), self._probed, self._projection
        for one in alone:
            if one is None:
                if failed := self._absorb_one(*next(left), entries):
                    return failed
                continue
            record, reducer, key = one
            entry = entries[key]
            if record.position <= entry.stored_version:
                continue
            if (text := entry.text) is not None and entry.document is None:
                document = loads(text)
            else:
                document, text = entry.both()
            try:
                if reducer.name in probed:
                    new = reducer.function(projection, document, record)
                    new_text = _checked(reducer, document, text, new)
                else:
                    new_text = self._reduced(reducer, document, text, record)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                entry.document = None  # it may have been tampered with; the text has not
                return _poison(record, key, error)
            if new_text != text:
                entry.become(new_text, record)
        return None

    def _absorb_one(
        self, record: Record, wanted: Sequence[tuple[Reducer, list[str]]], entries: Mapping[str, _FoldedDocument]
    ) -> Poison | None:
        """All documents of one record, or none of them."""
        changed: dict[str, bytes | None] = {}
        position = record.position
        for reducer, keys in wanted:
            for key in keys:
                entry = entries[key]
                if position <= entry.stored_version:
                    continue
                if key in changed:
                    text = changed[key]
                    document = None if text is None else loads(text)
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
        if reducer.name not in self._probed:
            again = None if text is None else loads(text)
            if self._call(reducer, again, text, record) != new_text:
                raise BrokenReducer(f"{reducer.name} is not pure: it gave two documents for one record")
            self._probes[reducer.name] = self._probes.get(reducer.name, 0) + 1
            if self._probes[reducer.name] == _PROBES:
                self._probed.add(reducer.name)
        return new_text

    def _call(self, reducer: Reducer, document: Any, text: bytes | None, record: Record) -> bytes | None:
        return _checked(reducer, document, text, reducer.function(self._projection, document, record))


def _checked(reducer: Reducer, document: Any, text: bytes | None, new: Any) -> bytes | None:
    """The text of what a reducer returned. Raises BrokenReducer."""
    if text is not None and dumps(document) != text:
        raise BrokenReducer(f"{reducer.name} changed the document it was given; it must return a new one")
    if new is document:
        return text
    if new is None:
        return None
    if not isinstance(new, dict):
        raise BrokenReducer(f"{reducer.name} returned a {type(new).__name__}; a document is a dict, or None")
    if RESERVED in new:
        raise BrokenReducer(f"{reducer.name} returned a field {RESERVED!r}, which is kept for positions")
    new_text = dumps(new)
    if b"null" in new_text:
        _refuse_nan(reducer, new)
    return new_text


def _of_the_first(several: Sequence[tuple[Record, list[tuple[Reducer, list[str]]]]]) -> int:
    """How many documents the first record is about."""
    return len({key for _, keys in several[0][1] for key in keys}) if several else 0


def _loaded(keys: Mapping[str, None], load: Load, room: Room | None, least: int) -> dict[str, _FoldedDocument]:
    """The documents, in the order of the keys, as many as there is room for, and `least` of them in any case."""
    if not room:
        stored = load(keys) if keys else {}
        return {key: _FoldedDocument(stored.get(key)) for key in keys}
    wanted, entries, size, page = list(keys), dict[str, _FoldedDocument](), 0, _FIRST_PAGE
    while len(entries) < len(wanted) and (len(entries) < least or size < room.bytes):
        part = wanted[len(entries) : len(entries) + page]
        stored = load(part)
        # Their texts are made for this alone, so only of a few.
        some = list(stored.values())[:: 1 + len(stored) // _WEIGHED]
        weight = sum(len(dumps(each.document or {})) for each in some) / max(1, len(some))
        size += int(weight * len(stored))
        entries |= {key: _FoldedDocument(stored.get(key)) for key in part}
        page = int(min(_PAGE, max(1, room.bytes / 8 / max(1.0, weight))))
    return entries


def _cut(
    alone: list[tuple[Record, Reducer, str] | None],
    several: Sequence[tuple[Record, list[tuple[Reducer, list[str]]]]],
    entries: Mapping[str, _FoldedDocument],
) -> int | None:
    """Leave out of a plan what comes from the first record on whose documents are not all there; its position."""
    left = iter(several)
    for place, one in enumerate(alone):
        record, keys = (one[0], [one[2]]) if one else _keys_in(*next(left))
        if any(key not in entries for key in keys):
            del alone[place:]
            return record.position
    return None


def _keys_in(record: Record, wanted: Sequence[tuple[Reducer, list[str]]]) -> tuple[Record, list[str]]:
    return record, [key for _, keys in wanted for key in keys]


def _of_status(reducers: Sequence[Reducer], status: str) -> list[Reducer]:
    return [reducer for reducer in reducers if status in reducer.rule.statuses]


def _refuse_nan(reducer: Reducer, document: dict[str, Any]) -> None:
    """Refuse what has no place in JSON: the floats of which orjson makes null, and the stdlib an error."""
    try:
        json.dumps(document, allow_nan=False, default=lambda other: getattr(other, "__dict__", None))
    except ValueError:
        raise BrokenReducer(f"{reducer.name} returned NaN or Infinity, which JSON does not have") from None


def _writes(entries: Mapping[str, _FoldedDocument]) -> tuple[list[Write], int, int]:
    """Every document that a record changed, even if a later one changed it back or deleted what was never stored.

    Else a write of another projector that was held up on its way could still arrive, and nothing would outrank it.
    """
    changed = [(key, entry) for key, entry in entries.items() if entry.version]
    appeared = sum(entry.exists - entry.existed for _, entry in changed)
    versions = sum(entry.exists * entry.version - entry.existed * entry.stored_version for _, entry in changed)
    return [Write(key, entry.version, entry.text, entry.deleted_at) for key, entry in changed], appeared, versions


def _poison(record: Record, key: str | None, error: BaseException) -> Poison:
    shown = shortened("".join(traceback.format_exception(error, limit=-8)))
    return Poison(record.position, key, shortened(f"{type(error).__name__}: {error}"), shown)


def stopped_by(poison: Poison, projection: str) -> ProjectionStopped:
    """What to raise for a record that a reducer could not absorb."""
    about = f" for the document {poison.key!r}" if poison.key else ""
    return ProjectionStopped(
        f"{projection} stopped before record {poison.position}{about}: {poison.error}",
        {"position": poison.position, "document": poison.key, "error": poison.error, "traceback": poison.traceback},
    )
