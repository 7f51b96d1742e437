"""To which statements it makes a difference what others committed: rather to too many than to too few.

What an action saw of others is tried for the statements to which it matters. A statement reads the tables that it
names; one that writes reads those too that foreign keys lead to, and those that triggers changed in history; an INSERT
of values reads its own table only where something must be unique. A statement that finds one row by its key sees no
other row, unless it changes what no two rows may have in common. Of one that names no table at all, as that calls a
function or reads a view, nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Table

from actionbus.replay.past.nets import Net
from actionbus.replay.past.overlap import Given, Other
from actionbus.replay.past.words import named_in, words_of
from actionbus.replay.sandbox.tables import Tables

BY_KEY: Final = r'(?<![\w.])(?:"?\w+"?\.)?"?{column}"?\s*=\s*(?:\?|%s|%\(\w+\)s|:\w+)'
"""A column that is compared with a parameter."""
_JOINED: Final = re.compile(r"\b(?:JOIN|UNION|INTERSECT|EXCEPT|OR|USING|WITH|MERGE)\b|\(\s*SELECT\b", re.I)
_WRITES: Final = re.compile(r"\b(insert|update|delete|merge|truncate|copy)\b", re.I)
_DELETES: Final = re.compile(r"\b(delete|merge|truncate)\b", re.I)
_LOCKS_ONLY: Final = re.compile(r"\bfor\s+(no\s+key\s+)?(update|share|key)\b.*$", re.I | re.S)
_WHERE: Final = re.compile(r"\bWHERE\b", re.I)
_SET: Final = re.compile(r".*?\bUPDATE\b.*?\bSET\b(.*)\bWHERE\b", re.I | re.S)
_INSERTS: Final = re.compile(r"\s*INSERT\s", re.I)
_READS_TOO: Final = re.compile(r"\b(select|conflict)\b", re.I)
_READS_NOTHING: Final = re.compile(
    r"\s*(SAVEPOINT|RELEASE|ROLLBACK|SET|SELECT\s+(pg_catalog\.)?set_config|SELECT\s+nextval)\b", re.I
)


class _Read(NamedTuple):
    """What a statement reads."""

    whole: frozenset[str]
    """Tables of which any change counts."""
    existing: frozenset[str]
    """Tables of which it counts that rows came or went."""
    all_of_them: bool
    key: tuple[str, ...]
    """Of the one table that it names, if it finds a row by that."""


class Mattering:
    """Tells it for one action; `recorded` are the rows that it wrote in history, `statements` those that it sends."""

    def __init__(self, tables: Tables, recorded: Iterable[Net], statements: Iterable[str]) -> None:
        self._shapes = tables.shapes
        named = set(named_in(self._shapes, words_of(statements)))
        self._by_triggers = frozenset(net.table for net in recorded) - named
        self._above: dict[str, set[str]] = {name: set() for name in self._shapes}
        self._below: dict[str, set[str]] = {name: set() for name in self._shapes}
        self._unique = tables.unique
        self._meets_others = {name for name, model in tables.models.items() if is_unique(model, tables.unique[name])}
        for name, model in tables.models.items():
            for column in model.columns:
                for key in column.foreign_keys:
                    above = tables.name_of(key.column.table)
                    self._above.setdefault(name, set()).add(above)
                    self._below.setdefault(above, set()).add(name)
        self._known: dict[str, _Read] = {}

    def to(self, given: Given, other: Other) -> bool:
        """Whether another that wrote these rows can make a difference to a statement."""
        read = self._read(given.text)
        if read.all_of_them:
            return True
        values = _texts(given.values) if read.key else None
        for net in other.nets:
            if net.table in read.whole and (values is None or _has_key(net, read.key, values)):
                return True
            if net.table in read.existing and (net.before is None or net.after is None):
                return True
        return False

    def tables(self, given: Given) -> frozenset[str]:
        """The tables that it names, as their shapes do."""
        return self._read(given.text).whole

    def goes_on(self, given: Given) -> bool:
        """Whether it may cascade, or fire triggers that change other tables: what these do is a statement each."""
        if not _WRITES.search(_LOCKS_ONLY.sub("", given.text)):
            return False
        named = named_in(self._shapes, words_of([given.text]))
        return bool(self._by_triggers) or bool(_DELETES.search(given.text) and any(self._below.get(n) for n in named))

    def _read(self, statement: str) -> _Read:
        if statement not in self._known:
            self._known[statement] = self._looked_at(statement)
        return self._known[statement]

    def _looked_at(self, statement: str) -> _Read:
        nothing: frozenset[str] = frozenset()
        if _READS_NOTHING.match(statement):
            return _Read(nothing, nothing, False, ())
        named = named_in(self._shapes, words_of([statement]))
        if not named:
            return _Read(nothing, nothing, True, ())
        if not _WRITES.search(_LOCKS_ONLY.sub("", statement)):
            return _Read(frozenset(named), nothing, False, self._key(named, statement))
        linked = set(self._by_triggers)
        for name in named:
            linked |= self._above.get(name, set())
            self._add_below(name, linked)
        if _INSERTS.match(statement) and not _READS_TOO.search(statement):
            whole = frozenset(name for name in named if name in self._meets_others)
            return _Read(whole | self._by_triggers, frozenset(linked), False, ())
        return _Read(frozenset(named) | self._by_triggers, frozenset(linked), False, self._key(named, statement))

    def _key(self, named: list[str], statement: str) -> tuple[str, ...]:
        if len(named) != 1 or _JOINED.search(statement) or self._by_triggers:
            return ()
        key, parts = self._shapes[named[0]].key, _WHERE.split(statement)
        is_by_key = parts[1:] and all(re.search(BY_KEY.format(column=re.escape(each)), parts[-1]) for each in key)
        return key if is_by_key and not makes_unique(statement, self._unique.get(named[0], ())) else ()

    def _add_below(self, name: str, found: set[str]) -> None:
        for each in self._below.get(name, ()):
            if each not in found:
                found.add(each)
                self._add_below(each, found)


def is_unique(model: Table, columns: frozenset[str]) -> bool:
    """Whether a new row of a table may meet another one: in these columns, but for a key that the database makes."""
    made = model.autoincrement_column
    return bool(columns - ({made.name} if made is not None else set()))


def makes_unique(statement: str, columns: Iterable[str]) -> bool:
    """Whether an UPDATE changes what no two rows may have: it may meet rows that it does not find."""
    found = _SET.match(statement)
    return found is not None and not words_of([found[1]]).isdisjoint(columns)


def _texts(values: Any) -> set[str]:
    """Of a statement's parameters those of which keys are made."""
    found: set[str] = set()
    for each in _each(values):
        if isinstance(each, (int, str, UUID)):
            found.add(str(each))
    return found


def _each(values: Any) -> Iterable[Any]:
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        for each in values:
            yield from _each(each)
    else:
        yield values


def _has_key(net: Net, key: tuple[str, ...], values: set[str]) -> bool:
    """Whether a statement's parameters may name a row: of keys that are no whole numbers, texts or UUIDs, they may."""
    for held in (net.before, net.after):
        if held is None:
            continue
        found = held.values()
        parts = [found.get(name) for name in key]
        if all(not isinstance(part, (int, str, UUID)) or str(part) in values for part in parts):
            return True
    return False
