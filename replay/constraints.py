"""Which constraint a database's error tells of, so that errors can be compared across dialects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint, Table, UniqueConstraint

_SQLITE = re.compile(r"(UNIQUE|NOT NULL|CHECK|FOREIGN KEY) constraint failed(?:: ([^\n\]]*))?")
_CLASSES = {"23505": "UNIQUE", "23502": "NOT NULL", "23514": "CHECK", "23503": "FOREIGN KEY"}


def constraint_of(error: Mapping[str, Any], tables: Sequence[Table]) -> str | None:
    """Kind and columns, such as `UNIQUE kits.name, kits.owner`; the kind alone where no more is told; or None."""
    state = str(error.get("sqlstate", ""))
    if state in _CLASSES:
        columns = _columns(str(error.get("constraint", "")), tables) if _CLASSES[state] == "UNIQUE" else None
        return f"{_CLASSES[state]} {', '.join(sorted(columns))}" if columns else _CLASSES[state]
    if found := _SQLITE.search(str(error.get("message", ""))):
        columns = [each.strip() for each in (found[2] or "").split(",")] if found[1] == "UNIQUE" else []
        return f"{found[1]} {', '.join(sorted(columns))}" if columns else found[1]
    return None


def _columns(name: str, tables: Sequence[Table]) -> list[str] | None:
    """The columns of a constraint by its name, given or PostgreSQL's own."""
    for table in tables:
        for known, columns in _named(table):
            if known == name:
                return [f"{table.name}.{column}" for column in columns]
    return None


def _named(table: Table) -> Iterator[tuple[str, list[str]]]:
    for constraint in table.constraints:
        if isinstance(constraint, (CheckConstraint, ForeignKeyConstraint)):
            continue
        if isinstance(constraint, (PrimaryKeyConstraint, UniqueConstraint)):
            columns = [column.name for column in constraint.columns]
            usual = "pkey" if isinstance(constraint, PrimaryKeyConstraint) else f"{'_'.join(columns)}_key"
            yield str(constraint.name or f"{table.name}_{usual}"), columns
    for index in table.indexes:
        if index.unique:
            yield str(index.name), [column.name for column in index.columns]
