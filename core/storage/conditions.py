"""What a JournalFilter asks for, as SQL over the journal's columns. Used by `core.journal`, which reads by it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Integer, Text, and_, cast, false, func, literal, or_, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from actionbus.core.values.identifiers import action_id_of
from actionbus.core.values.journal_filter import JournalFilter
from actionbus.core.values.payload import dumps

_LONGEST_SEARCHED: Final = 100_000
_LAST: Final = 2**63 - 1
_VALUES: Final = ("action", "actor", "status", "kind", "correlation_id", "release")
"""Fields by whose values records are chosen."""


def conditions_of(
    where: JournalFilter, records: FromClause, comparable: Callable[[datetime], datetime]
) -> list[ColumnElement[bool]]:
    """All that must hold of a row of `records`, but for what it touched; `comparable` makes times the journal's."""
    c = records.c
    asked = {name: value for name in _VALUES if (value := getattr(where, name)) is not None}
    found = [is_any(c[name], value) for name, value in asked.items()]
    found += [is_none_of(c[name], values) for name, values in where.excluded.given().items()]
    if where.cause_id is not None:
        found.append(c.cause_id == action_id_of(where.cause_id))
    for word in (where.text or "").split():
        found.append(_holds(c, word))
    if where.since is not None:
        found.append(c.recorded_at >= comparable(aware(where.since)))
    if where.until is not None:
        found.append(c.recorded_at < comparable(aware(where.until)))
    return found


def _holds(c: Any, word: str) -> ColumnElement[bool]:
    """Whether a word is somewhere in what was asked or came of it, which is kept in JSON of ASCII."""
    sought = dumps(word)[1:-1].lower()
    parts = (
        and_(
            stored_size(c[name]) <= _LONGEST_SEARCHED,
            func.lower(cast(c[name], Text)).contains(sought, autoescape=True),
        )
        for name in ("arguments", "result", "error")
    )
    return or_(false(), *(func.coalesce(each, false()) for each in parts))


class stored_size(FunctionElement[int]):  # noqa: N801 - it is a function of SQL
    """About how many bytes a value takes, found out without reading it."""

    type = Integer()
    inherit_cache = True


@compiles(stored_size, "postgresql")
def _stored_size_on_postgresql(element: Any, compiler: Any, **more: Any) -> str:
    return f"pg_column_size({compiler.process(element.clauses, **more)})"


@compiles(stored_size)
def _stored_size(element: Any, compiler: Any, **more: Any) -> str:
    return f"length({compiler.process(element.clauses, **more)})"


def is_any(column: ColumnElement[Any], wanted: str | Collection[str]) -> ColumnElement[bool]:
    """Whether it is one of these; an empty text stands for NULL."""
    values = {wanted} if isinstance(wanted, str) else set(wanted)
    named = sorted(values - {""})
    parts = [column == named[0]] if len(named) == 1 else [column.in_(named)] if named else []
    return or_(false(), *parts, *([column.is_(None)] if "" in values else []))


def is_none_of(column: ColumnElement[Any], values: Collection[str]) -> ColumnElement[bool]:
    """Whether it is none of these; what has no value is none of those that have one."""
    named = sorted({*values} - {""})
    there = column.is_not(None)
    if not named:
        return there
    others = column.not_in(named)
    return and_(there, others) if "" in values else or_(column.is_(None), others)


def keyset(
    dialect: str,
    column: ColumnElement[Any],
    value: Any,
    position: ColumnElement[int],
    low: int | ColumnElement[int],
    high: int | ColumnElement[int] | None,
) -> list[ColumnElement[bool]]:
    """Records with one value, beyond `low` up to `high`, by the index on (column, position) and no other.

    On PostgreSQL compared as pairs, and ordered by both. Were they compared one by one, a planner who takes the value
    for a frequent one would walk along the positions instead, and through all of them if it was wrong. SQLite goes by
    the first of a pair alone where the second is the row's own number, as here: through all that have the value.
    """
    most = _LAST if high is None else high
    if dialect == "sqlite":
        return [column == literal(value, column.type), position > low, position <= most]
    pair = tuple_(column, position)
    return [pair > tuple_(literal(value, column.type), low), pair <= tuple_(literal(value, column.type), most)]


def aware(moment: datetime) -> datetime:
    """A time with its zone; a naive one is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
