"""Rows before and after, as templates show them: columns in order, each value with its origin. Used by pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actionbus.adapters.inspector.asking import address
from actionbus.core.values.row_keys import key_text


def change_told(
    change: Mapping[str, Any], *, before_at: str | None = None, after_at: str | None = None
) -> dict[str, Any]:
    """A change with its columns in order: those that changed first. The points say when the row was so, if known."""
    before, after = change["before"] or {}, change["after"] or {}
    changed = set(change["columns"])
    names = sorted({**before, **after}, key=lambda each: each not in changed)
    table, key = change["table"], text_of_key(change["key"])

    def origin(name: str, at: str | None) -> str | None:
        return origin_address(table, key, name, at=at) if key and at else None

    columns = [
        {
            "name": name,
            "before": before.get(name),
            "after": after.get(name),
            "had": name in before,
            "has": name in after,
            "changed": name in changed,
            "before_from": origin(name, before_at),
            "after_from": origin(name, after_at),
        }
        for name in names
    ]
    return {**change, "columns": columns, "key_text": key, "row": row_address(table, key) if key else None}


def changes_told(
    changes: Sequence[Mapping[str, Any]], positions: Sequence[int | None], *, newest_first: bool = False
) -> list[dict[str, Any]]:
    """Changes at positions. What a row was between two changes at one position, no position tells."""
    rows = [(at, each["table"], text_of_key(each["key"])) for each, at in zip(changes, positions, strict=True)]
    told = []
    for number, (change, row) in enumerate(zip(changes, rows, strict=True)):
        position, sides = row[0], (rows[:number], rows[number + 1 :])
        earlier, later = reversed(sides) if newest_first else sides
        before = str(position - 1) if position and row not in earlier else None
        after = str(position) if position and row not in later else None
        told.append(change_told(change, before_at=before, after_at=after))
    return told


def text_of_key(key: Mapping[str, Any]) -> str:
    """A row's key as an address has it; nothing for one that is masked, or is none that a text tells, or no key."""
    if not key or any(isinstance(each, (Mapping, list)) or each is None for each in key.values()):
        return ""
    return key_text(list(key.values()))


def row_address(table: str, key: str, **more: str) -> str:
    """Where a row's page is."""
    return address("/row", [("table", table), ("key", key), *more.items()])


def origin_address(table: str, key: str, column: str, *, at: str | None = None) -> str:
    """Where it is told where a column's value came from."""
    then = [("at", at)] if at else []
    return address("/origin", [("table", table), ("key", key), ("column", column), *then])
