"""Positions of records with some value, by an index on (column, position), from one end on. Used by `core.journal`.

Each of these indexes gives the positions of one value in their order. So finding the first or last of them takes as
long in any journal, and is not left to a planner who would have to know how often a value comes, and where.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, CompoundSelect, Connection, Select, Table, literal, or_, select, text, union_all

from actionbus.core.storage.conditions import keyset
from actionbus.core.values.identifiers import action_id_of
from actionbus.core.values.journal_filter import JournalFilter
from actionbus.core.values.record import STATUSES

_OF_OUTCOMES: Final = frozenset({"outcome", "bypass"})
"""Kinds of records among which only outcomes have an actor or an action's name."""
_UNSUCCESSFUL: Final = frozenset(STATUSES) - {"succeeded"}
PARTIAL: Final = {
    "actor": text("kind = 'outcome' AND actor IS NOT NULL"),
    "action": text("kind = 'outcome'"),
    "status": text("status <> 'succeeded'"),
    "cause_id": text("cause_id IS NOT NULL"),
}
"""What an index is restricted to, in its own words, by which the database knows it again."""


class ByValue(NamedTuple):
    """A column with an index, and the values that are wanted of it."""

    column: str
    values: tuple[Any, ...]


class Positions(NamedTuple):
    """Some positions, in the order in which they are looked for."""

    found: list[int]
    reached: int | None
    """The last one looked at; None if there are no more in the range."""


def indexed(where: JournalFilter) -> ByValue | None:
    """The index by which a filter is best looked up: of what few records have the same, before what many may."""
    kinds = _values(where.kind)
    outcomes_alone = bool(kinds) and set(kinds) <= _OF_OUTCOMES
    if found := _values(where.correlation_id):
        return ByValue("correlation_id", found)
    if where.cause_id is not None:
        return ByValue("cause_id", (action_id_of(where.cause_id),))
    if (found := _values(where.status)) and set(found) <= _UNSUCCESSFUL:
        return ByValue("status", found)
    for name in ("actor", "action"):
        if outcomes_alone and (found := _values(getattr(where, name))):
            return ByValue(name, found)
    return None


def _values(given: Any) -> tuple[str, ...]:
    """The values that are asked for, if all of them are such as stand in an index."""
    values = (given,) if isinstance(given, str) else tuple(sorted(given or ()))
    return () if "" in values else values


def positions(
    connection: Connection, journal: Table, wanted: ByValue, low: int, high: int, most: int, *, newest_first: bool
) -> Positions:
    """About `most` positions beyond `low` up to `high`, from one end on."""
    dialect, each_most = connection.dialect.name, max(1, most // len(wanted.values))
    found: list[list[int]] = [[] for _ in wanted.values]
    branches = [
        select(
            literal(number),
            _of_value(dialect, journal, wanted.column, value, low, high, each_most, newest_first).c.position,
        )
        for number, value in enumerate(wanted.values)
    ]
    for number, position in connection.execute(union_all(*branches) if len(branches) > 1 else branches[0]):
        found[number].append(position)
    ends = [each[-1] for each in found if len(each) == each_most]
    every = sorted((position for each in found for position in each), reverse=newest_first)
    if not ends:
        return Positions(every, None)
    reached = max(ends) if newest_first else min(ends)
    return Positions([each for each in every if (each >= reached if newest_first else each <= reached)], reached)


def _of_value(
    dialect: str, journal: Table, name: str, value: Any, low: int, high: int, most: int, newest_first: bool
) -> Any:
    c = journal.c
    column: ColumnElement[Any] = c[name]
    order: Sequence[Any] = (column.desc(), c.position.desc()) if newest_first else (column, c.position)
    chosen = select(c.position).where(*keyset(dialect, column, value, c.position, low, high))
    if name in PARTIAL:
        chosen = chosen.where(PARTIAL[name])
    return chosen.order_by(*order).limit(most).subquery()


def first_caused(dialect: str, journal: Table, causes: Iterable[UUID], most: int) -> CompoundSelect[Any]:
    """Of the actions that each of these caused, the first ones, one position: of the outcome, if there is one."""
    return union_all(*(select(_caused_by(dialect, journal, cause, most).subquery()) for cause in causes))


def _caused_by(dialect: str, journal: Table, cause: UUID, most: int) -> Select[Any]:
    c, outcome = journal.c, journal.alias("outcome")
    has_outcome = select(outcome.c.position).where(outcome.c.action_id == c.action_id, outcome.c.kind == "outcome")
    return (
        select(c.cause_id, c.position)
        .where(*keyset(dialect, c.cause_id, cause, c.position, 0, None), c.cause_id.is_not(None))
        .where(or_(c.kind != "submitted", ~has_outcome.exists()))
        .order_by(c.cause_id, c.position)
        .limit(most)
    )


def positions_in(statement: CompoundSelect[Any], connection: Connection) -> list[int]:
    """The second column of a statement's rows, sorted: of `first_caused`, the positions."""
    return sorted(position for _, position in connection.execute(statement))
