"""Writes the triggers that record rows on SQLite; for `history.sqlite`, and to see whether they are those.

A trigger's own statements, and the names in them, are SQLite's to find in the file the table is in, so that no
temporary table can stand in their way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from actionbus.core.storage.history_ddl import IMAGES
from actionbus.core.storage.names import quoted
from actionbus.core.storage.sqlite_images import key_part


class Table(NamedTuple):
    """A table as the catalogue has it, of its columns those that are recorded."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    key: tuple[str, ...]
    withheld: tuple[str, ...]


def wanted_triggers(table: Table, shape: int) -> dict[str, str]:
    """By name, as SQLite keeps their text."""
    same = " AND ".join(f"OLD.{quoted(each)} IS NEW.{quoted(each)}" for each in table.key) or "1"
    on = f"ON {quoted(table.name)}"
    delete = f"{into(table, 'o')} VALUES ({values(table, shape, 'd', 'OLD.', ('OLD.',))});"
    insert = f"{into(table, 'n')} VALUES ({values(table, shape, 'i', 'NEW.', ('NEW.',))});"
    update = f"{into(table, 'on')} VALUES ({values(table, shape, 'u', 'NEW.', ('OLD.', 'NEW.'))});"
    made = {
        "i": f"AFTER INSERT {on} BEGIN {insert} END",
        "u": f"AFTER UPDATE {on} WHEN {same} BEGIN {update} END",
        "d": f"AFTER DELETE {on} BEGIN {delete} END",
    }
    if table.key:
        made["k"] = f"AFTER UPDATE {on} WHEN NOT ({same}) BEGIN {delete} {insert} END"
    return {
        name: f"CREATE TRIGGER {quoted(name)} {body}"
        for name, body in ((f"actionbus_{letter}_{table.name}", body) for letter, body in made.items())
    }


def into(table: Table, sides: str) -> str:
    """The beginning of an INSERT of images that have these sides: `o`ld, `n`ew."""
    numbers = range(1, len(table.columns) + 1)
    columns = ["shape", "operation", "key", "at", *(f"{side}{number}" for side in sides for number in numbers)]
    return f"INSERT INTO {IMAGES} ({', '.join(columns)})"


def values(table: Table, shape: int, operation: str, key_of: str, rows: Sequence[str]) -> str:
    """What such an INSERT puts there; `key_of` and `rows` are what stands before the columns of a row."""
    if len(table.key) == 1:
        key = f"{key_of}{quoted(table.key[0])}"
    else:
        key = " || ',' || ".join(key_part(f"{key_of}{quoted(each)}") for each in table.key) or "NULL"
    columns = (f"{row}{quoted(column)}" for row in rows for column in table.columns)
    return ", ".join([str(shape), f"'{operation}'", key, "julianday('now')", *columns])
