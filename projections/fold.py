"""Folds a batch of records into documents in memory; no store, no database. Used by the feeder and by verification.

Why absorbing a batch twice, or half of it, is harmless: a document of version v holds the effect of every record up to
v, so records at or below v are not folded into it again; a document that a batch left unchanged keeps its version and,
the reducers being pure, is left unchanged again.
"""

from __future__ import annotations

import json
import traceback
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from sys import maxsize
from typing import Any, NamedTuple

from orjson import dumps, loads

from actionbus.core import Record
from actionbus.projections.entries import Entry, Load, Room, growth, loaded, pages, writes_of
from actionbus.projections.errors import ProjectionStopped, shortened
from actionbus.projections.projection import (
    RESERVED,
    SHORT_KEY,
    STATUSES,
    Projection,
    Reducer,
    as_keys,
    finder,
    is_reserved,
    keys_of,
)
from actionbus.projections.store import Write

_OURS = b'"' + RESERVED.encode()
_PROBES = 2
_PARTS = 8
"""So many parts of a great record may grow to what there is room for."""
_NONE: list[Reducer] = []


class BrokenReducer(Exception):
    """A reducer broke its contract; the message says how."""


class Poison(NamedTuple):
    """A record that a reducer could not absorb."""

    position: int
    key: str | None
    error: str
    traceback: str


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
    great: Record | None = None
    """A record for whose documents alone there is no room: nothing of it is in `writes` (see `Fold.in_parts`)."""


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
        """Fold records in their order, as many as there is room for. Errors of `load` are raised; those of reducers are
        told in the answer, and so is a `great` record, if it is the first."""
        poison: Poison | None = None
        beyond: int | None = None
        alone: list[tuple[Record, Reducer, str] | None] = []
        several: list[tuple[Record, list[tuple[Reducer, list[str]]]]] = []
        keys: dict[str, None] = {}
        sole, most = self._sole, room.documents if room else maxsize
        for record in records:
            if record.position in skipped:
                continue
            if len(keys) >= most:
                beyond = record.position
                break
            try:
                if (by := sole.get((record.action, record.status))) is None:
                    wanted = self.keys(record)
                elif type(key := by[1](record)) is str and 0 < len(key) <= SHORT_KEY and key.isprintable():
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
            elif wanted and sum(len(each) for _, each in wanted) > most:
                if not alone:
                    return _great(record)
                beyond = record.position
                break
            elif wanted:
                keys |= dict.fromkeys(key for _, each in wanted for key in each)
                alone.append(None)
                several.append((record, wanted))
        first = several[0][0] if alone and alone[0] is None else None
        entries = loaded(keys, load, room)
        if len(entries) < len(keys):
            beyond, poison = _cut(alone, several, entries), None
        failed, no_room_for = self._absorb_all(alone, several, entries, room.bytes if room else maxsize)
        if failed or no_room_for:
            poison, beyond = failed, no_room_for  # that comes before what was found until now
        if first and first.position == beyond:
            return _great(first)
        return FoldResult(*writes_of(entries), poison, beyond)

    def _absorb_all(
        self,
        alone: Iterable[tuple[Record, Reducer, str] | None],
        several: Iterable[tuple[Record, list[tuple[Reducer, list[str]]]]],
        entries: Mapping[str, Entry],
        space: int,
    ) -> tuple[Poison | None, int | None]:
        """All that is planned, in its order, until documents have grown by more than `space` bytes: the record that a
        reducer could not absorb, or the position of the first that there was no room for. What is about one document,
        as most records are, is done here: it is as `_absorb_one` would, in less time."""
        left, probed, projection = iter(several), self._probed, self._projection
        for one in alone:
            if one is None:
                record, wanted = next(left)
                grown = self._absorb_one(record, wanted, entries, space)
                if isinstance(grown, Poison):
                    return grown, None
                if grown > space:
                    return None, record.position
                space -= grown
                continue
            record, reducer, key = one
            if space < 0:
                return None, record.position
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
                return _poison(record, key, error), None
            if new_text != text:
                space -= growth(text, new_text)
                entry.become(new_text, record)
        return None, None

    def _absorb_one(
        self, record: Record, wanted: Sequence[tuple[Reducer, list[str]]], entries: Mapping[str, Entry], space: int
    ) -> Poison | int:
        """All documents of one record, or none of them; by how many bytes they grow, none if by more than `space`."""
        changed: dict[str, bytes | None] = {}
        position, grown = record.position, 0
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
                    grown += growth(text, new_text)
                    if grown > space:
                        return grown
        for key, text in changed.items():
            entries[key].become(text, record)
        return grown

    def in_parts(self, record: Record, load: Load, room: Room) -> Iterator[FoldResult]:
        """What one record comes to, some documents at a time; it ends where a reducer cannot absorb it.

        It is the same as all at once, since a reducer sees no document but the one that it is given.
        """
        reducers: dict[str, list[Reducer]] = {}
        for reducer, keys in self.keys(record):
            here = [reducer]
            for key in keys:
                reducers[key] = [*reducers[key], reducer] if key in reducers else here
        for part, stored, _ in pages(reducers, load, room):
            entries: dict[str, Entry] = {}
            space = room.bytes // _PARTS
            for key in part:
                one = {key: Entry(stored.get(key))}
                grown = self._absorb_one(record, [(each, [key]) for each in reducers[key]], one, maxsize)
                if isinstance(grown, Poison):
                    yield FoldResult([], 0, 0, grown)
                    return
                entries |= one
                space -= grown
                if space < 0:
                    yield FoldResult(*writes_of(entries), None)
                    entries, space = {}, room.bytes // _PARTS
            yield FoldResult(*writes_of(entries), None)

    def only(self, records: Iterable[Record], skipped: Collection[int]) -> bool:
        """Whether documents are folded from one of some records alone."""
        try:
            wanted = (record for record in records if record.position not in skipped and self.keys(record))
            return next(wanted, None) is not None and next(wanted, None) is None
        except Exception:  # it has no keys, which is told when it is absorbed
            return False

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
    new_text = dumps(new)
    if _OURS in new_text and any(map(is_reserved, new)):
        raise BrokenReducer(f"{reducer.name} returned a field {RESERVED!r}, or in it, which is kept for positions")
    if b"null" in new_text:
        _refuse_nan(reducer, new)
    return new_text


def _great(record: Record) -> FoldResult:
    return FoldResult([], 0, 0, None, record.position + 1, record)


def _cut(
    alone: list[tuple[Record, Reducer, str] | None],
    several: Sequence[tuple[Record, list[tuple[Reducer, list[str]]]]],
    entries: Mapping[str, Entry],
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
