"""A fork that runs again only what seems to touch what differs: `fork --narrow`. Why that is no proof: decision 0023.

An action is run again if it was changed; if it wrote a row that differs, or one that refers to such a row; if its
arguments, actor or context hold the key of one; or if actions of its kind, as far as they were run here, read a table
by other ways than its key and rows of that table differ. Of each kind the first few are run to see how it reads. All
others are taken as recorded: their rows are put there when the next action needs them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple
from uuid import UUID

from actionbus.core.history.shapes import BASELINE, Shape
from actionbus.replay.fork import Fork, Forking
from actionbus.replay.past.history import Entry, entries
from actionbus.replay.past.nets import HeldRow, Net, net_of
from actionbus.replay.past.recorded import OfRecord, images_between
from actionbus.replay.past.words import last_name, words_of
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.verdicts.mattering import BY_KEY, makes_unique

_WINDOW: Final = 20_000
"""Positions that are looked through at a time."""
_SEEN: Final = 3
"""How many of each kind are run to see how they read."""
_TOKEN: Final = re.compile(r"[^\s\"\[\]{}:,]+")
"""What may be a key in JSON."""
_JOINED: Final = re.compile(r"\b(?:JOIN|UNION|INTERSECT|EXCEPT|OR)\b|\(\s*SELECT\b", re.I)
_INSERTS: Final = re.compile(r"\s*INSERT\s", re.I)
_FROM: Final = re.compile(r"\bFROM\b", re.I)
_RECORDS: Final = """SELECT position, kind, action_id, action, cause_id, actor, CAST(arguments AS text),
    CAST(context AS text) FROM {home}journal WHERE position > ? AND position <= ? ORDER BY position"""
_CAUSE: Final = "SELECT position FROM {home}journal WHERE action_id = ? AND kind = 'outcome'"
ANY: Final = "*"
"""Stands for a table that is not known, such as the one behind a view."""


class _EndedAction(NamedTuple):
    """What is looked at of an action, and of those nested in it."""

    position: int
    action_id: UUID
    action: str
    first: int
    """Where it was submitted, or a later position before its outcome."""
    texts: list[str]
    images: list[OfRecord]


class ReadWays:
    """How actions of each kind were seen to read. `tables` are those that a statement may name.

    `unique` are columns beside the key, by table, in which no two rows may be the same.
    """

    def __init__(self, tables: Mapping[str, Shape], unique: Mapping[str, Collection[str]]) -> None:
        self._keys = {last_name(name): (name, each.key) for name, each in tables.items()}
        self._unique = unique
        self._seen: Counter[str] = Counter()
        self._tables: dict[str, set[str]] = {}
        self._by_key: dict[str, set[str]] = {}

    def note(self, action: str, statements: Sequence[str]) -> None:
        """An action of a kind ran, and sent these."""
        self._seen[action] += 1
        known, by_key = self._tables.setdefault(action, set()), self._by_key.setdefault(action, set())
        for statement in statements:
            known |= (read := self._by_other_ways(statement))
            if not read and not _INSERTS.match(statement):
                by_key.update(self._keys[word][0] for word in words_of([statement]) & self._keys.keys())

    def is_known(self, action: str) -> bool:
        """Whether enough of a kind were run."""
        return self._seen[action] >= _SEEN

    def tables(self, action: str) -> set[str]:
        """The tables that a kind reads by other ways than their keys."""
        return self._tables.get(action, set())

    def keyed(self, action: str) -> set[str]:
        """The tables that a kind reads by their keys."""
        return self._by_key.get(action, set())

    def _by_other_ways(self, statement: str) -> set[str]:
        named = {self._keys[word][0]: self._keys[word][1] for word in words_of([statement]) & self._keys.keys()}
        if not named:
            return {ANY} if _FROM.search(statement) else set()
        is_insert = bool(_INSERTS.match(statement)) and not _FROM.search(statement)
        if is_insert:  # it reads what must be unique
            return {name for name in named if name in self._unique}
        ((first, key), *more) = named.items()
        if more or not key or _JOINED.search(statement):
            return set(named)
        is_by_key = all(re.search(BY_KEY.format(column=re.escape(each)), statement) for each in key)
        return set() if is_by_key and not makes_unique(statement, self._unique.get(first, ())) else {first}


class NarrowForking(Forking):
    """Forks by running only what the change reaches; the module says how."""

    def _follow(self, fork: Fork, progress: Callable[[Entry], None] | None) -> None:
        self._replayer.check_versions(fork.begun_at)
        self._replayer.load(fork.begun_at)
        tables = self._sandbox.tables
        unique = {
            name: beside
            for name, model in tables.models.items()
            if (beside := tables.unique[name].difference(model.primary_key.columns.keys()))
        }
        self._ways = ReadWays(tables.shapes, unique)
        self._references = {
            (name, column.name): tables.name_of(key.column.table)
            for name, model in tables.models.items()
            for column in model.columns
            for key in column.foreign_keys
        }
        self._waiting: dict[Any, Net] = {}
        pending = list(self._insert)
        for each in self._ended(fork.begun_at):
            while pending and pending[0].after < each.position:
                self._put_waiting()
                self._run_inserted(fork, pending.pop(0))
            if each.action_id in self._chosen or self._matters(each):
                self._again(fork, each, progress)
            else:
                fork.taken += 1
                self._wait(each.images)
            is_last = each.position >= self._last_change and not pending and not self._overrides
            if is_last and not self._lines.differ():
                fork.met_at = each.position
                return
        if pending:
            self._put_waiting()
        for inserted in pending:
            self._run_inserted(fork, inserted)

    def _again(self, fork: Fork, each: _EndedAction, progress: Callable[[Entry], None] | None) -> None:
        self._put_waiting()
        entry = next(
            one for one in entries(self._journal, each.first - 1, each.position) if one.action_id == each.action_id
        )
        shapes = each.images[0].shapes if each.images else {}
        recorded = net_of(chain.from_iterable(of.images for of in each.images), shapes)
        if self._replayer.is_for_operators(entry):
            self._sandbox.put(recorded)
            self._lines.note_both(recorded)
            return
        self._take(entry, recorded, fork)
        if progress:
            progress(entry)

    def _run(self, entry: Entry, recorded: list[Net], edits: Mapping[str, Any] | None) -> Rerun:
        rerun = super()._run(entry, recorded, edits)
        self._ways.note(entry.outcome.action, rerun.statements)
        return rerun

    def _matters(self, each: _EndedAction) -> bool:
        if not self._ways.is_known(each.action) or self._overrides:
            return True
        parted = self._lines.parted()
        if not parted.rows:
            return False
        read = self._ways.tables(each.action)
        if ANY in read or not read.isdisjoint(parted.tables):
            return True
        named = set().union(*(parted.by_table.get(table, ()) for table in self._ways.keyed(each.action)))
        if named and any(not named.isdisjoint(_TOKEN.findall(text)) for text in each.texts):
            return True
        return any(self._touches(of, parted) for of in each.images)

    def _touches(self, of: OfRecord, parted: Any) -> bool:
        """Whether a record wrote a row that differs, or one that refers to it."""
        for image in of.images:
            shape = of.shapes.get(image.shape)
            if shape is None:
                continue
            if (shape.table_name, str(image.key)) in parted.rows or (
                not shape.key and shape.table_name in parted.tables
            ):
                return True
            for column in shape.columns:
                target = self._references.get((shape.table_name, column))
                if target in parted.tables and any(
                    str(HeldRow(shape, row).values()[column]) in parted.by_table[target]
                    for row in (image.before, image.after)
                    if row is not None
                ):
                    return True
        return False

    def _wait(self, images: Sequence[OfRecord]) -> None:
        """Rows that are put there when they are needed."""
        for of in images:
            if any(each.operation == BASELINE for each in of.images):
                self._put_waiting()
                self._sandbox.put(of.nets(), begun=of.begun())
                self._lines.note_both(of.nets())
                continue
            for net in of.nets():
                own = (net.table, type(net.key), net.key) if net.shape.key else (net.table, len(self._waiting))
                first = self._waiting.pop(own, None)
                self._waiting[own] = net if first is None else net._replace(before=first.before)
                self._lines.note_known(net)

    def _put_waiting(self) -> None:
        if self._waiting:
            nets = [net for net in self._waiting.values() if net.before is not None or net.after is not None]
            self._sandbox.put(nets)
            self._waiting.clear()

    def _ended(self, after: int) -> Iterator[_EndedAction]:
        """The outermost actions beyond a position, in the order of their outcomes; bypasses are put on their way."""
        end, low = self._journal.settled(), after
        asked: dict[UUID, tuple[int, list[str]]] = {}
        inside: dict[UUID, _EndedAction] = {}
        while low < end:
            high = min(low + _WINDOW, end)
            shapes, found = images_between(self._replayer.history, low, high)
            by_position: dict[int, list[Any]] = {}
            for image in found:
                by_position.setdefault(image.position or 0, []).append(image)
            for position, kind, own, action, cause, actor, arguments, context in self._rows(_RECORDS, (low, high)):
                images = by_position.get(position)
                of = [OfRecord(position, images, shapes)] if images else []
                action_id = UUID(str(own))
                if kind == "bypass":
                    self._wait(of)
                    continue
                if kind == "submitted":
                    asked[action_id] = position, [each for each in (arguments, actor, context) if each]
                    continue
                first, texts = asked.pop(action_id, (position, []))
                texts = [*texts, *([arguments] if arguments else ())]
                made = inside.pop(action_id, None)
                if made is not None:
                    first, texts, of = min(first, made.first), [*made.texts, *texts], [*made.images, *of]
                if cause is not None and self._is_nested(cause, position):
                    outer = inside.setdefault(UUID(str(cause)), _EndedAction(0, action_id, "", first, [], []))
                    outer.texts.extend(texts)
                    outer.images.extend(of)
                    continue
                yield _EndedAction(position, action_id, action, first, texts, of)
            low = high

    def _is_nested(self, cause: Any, position: int) -> bool:
        found = self._rows(_CAUSE, (cause,))
        return not found or found[0][0] > position

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Sequence[Any]]:
        with self._replayer.history.opened(None) as opened:
            return opened.images.rows_of(sql, values)
