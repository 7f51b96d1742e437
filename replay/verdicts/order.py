"""Whether an action comes out otherwise only since its rows lie elsewhere in their tables. Used by the replayer.

A query that says no order gets rows as they lie: LIMIT without ORDER BY, aggregates of texts and lists, loops over what
was found. An UPDATE, a DELETE or a cascade goes through them as they lie too, and triggers number what they write then.
How they lay in history nobody recorded: a replay that begins in between puts them there one after the other, and after
a vacuum, or where a full page is tidied up, later rows take the place of earlier ones. So the action is run on the
same rows once more, laid out backwards: if nothing changes then, no order decided anything, and a difference counts.
Else the rows that history chose are laid first, in the order in which it names them: where the action then comes out as
recorded, or where what it tells are the same things in another order, the order alone explains it.

It never explains other values of rows: nothing but an order of the same rows is tried, and all has to come out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from actionbus.core.values import payload
from actionbus.replay.past.history import Entry
from actionbus.replay.past.nets import Net
from actionbus.replay.past.words import named_in, words_of
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.sandbox.tables import Layout, Row
from actionbus.replay.verdicts.divergence import Difference

_GOES_THROUGH: Final = re.compile(r"\b(select|table|returning|update|delete|merge)\b", re.IGNORECASE)
"""Statements that find rows, of which only they can tell an order: by what they give, or by what triggers write."""
_TOLD: Final = re.compile(r"^(result|calls)\b")
_PART: Final = re.compile(r"[\w-]+")
_FAR: Final = 2**62


def gone_through(shapes: Iterable[str], statements: Iterable[str], recorded: Sequence[Net]) -> list[str]:
    """The tables whose rows were found in some order: those that statements name, and whose rows history changed.

    The latter since a cascade, a trigger or a function changes rows of tables that no statement names.
    """
    changed = {net.table for net in recorded if net.before is not None}
    named = named_in(shapes := list(shapes), words_of(filter(_GOES_THROUGH.search, statements)))
    return [table for table in shapes if table in changed or table in named]


def as_named(entry: Entry, recorded: Sequence[Net]) -> Iterator[Layout]:
    """First, or last, the rows that history changed, in that order; or those that its answer or its rows name."""
    texts = [payload.dumps(each) for each in (entry.outcome.result, entry.outcome.calls) if each is not None]
    texts += [str(value) for net in recorded if net.after is not None for value in net.after.fields().values()]
    places: dict[str, int] = {}
    for number, part in enumerate(_PART.findall(" ".join(texts))):
        places.setdefault(part, number)
    changed: dict[str, list[dict[str, Any]]] = {}
    for net in recorded:
        if net.before is not None:
            fields = net.before.fields()
            changed.setdefault(net.table, []).append({name: fields[name] for name in net.shape.key or fields})

    def by_writes(table: str, rows: Sequence[Row]) -> list[int]:
        keys = changed.get(table, ())
        return _first(rows, lambda row: next((n for n, key in enumerate(keys) if _fits(row, key)), _FAR))

    def by_values(table: str, rows: Sequence[Row]) -> list[int]:
        return _first(rows, lambda row: min((_place(places, value) for value in row.values()), default=_FAR))

    def by_first_value(table: str, rows: Sequence[Row]) -> list[int]:
        return _first(rows, lambda row: _place(places, next(iter(row.values()), None)))

    for layout in (by_writes, by_first_value, by_values):
        yield layout
        yield lambda table, rows, first=layout: first(table, rows)[::-1]  # type: ignore[misc]


def _fits(row: Row, key: Row) -> bool:
    return bool(key) and all(str(row.get(name)) == str(value) for name, value in key.items())


def _place(places: Mapping[str, int], value: Any) -> int:
    found = [places[part] for part in _PART.findall(str(value)) if part in places]
    return min(found, default=_FAR)


def _first(rows: Sequence[Row], place: Callable[[Row], int]) -> list[int]:
    return sorted(range(len(rows)), key=lambda number: place(rows[number]))


def answer_of(rerun: Rerun) -> list[Any]:
    """What a re-run answered, and what it called."""
    return [None if text is None else payload.loads(text) for text in (rerun.outcome.result, rerun.outcome.calls)]


def are_permuted(differences: Sequence[Difference], recorded: Any, now: Any) -> bool:
    """Whether what differs is in the answer alone, and this has the same things in another order."""
    return all(_TOLD.match(each.field) for each in differences) and _parts(recorded) == _parts(now)


def _parts(value: Any) -> list[str]:
    return sorted(_PART.findall(payload.dumps(value)))
