"""Puts the triggers that record rows on SQLite's tables, and takes them away. Called through `history.databases`.

They write each changed row's values, as they are, into columns without a type (`history.sqlite_triggers`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from itertools import count
from typing import Any, Final

from sqlalchemy import Connection

from actionbus.core.history.shapes import BASELINE, Shape, TableWanted, sqlite_shapes
from actionbus.core.history.sqlite_standing import find, fits, shapes_of, triggers_of, was_recorded
from actionbus.core.history.sqlite_triggers import Table, into, values, wanted_triggers
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.history_ddl import IMAGES, SHAPES
from actionbus.core.storage.names import quoted
from actionbus.core.storage.sqlite_images import append_bypass, cover, last_image

_NEW: Final = re.compile(r'NEW\."((?:[^"]|"")*)"')


def install(connection: Connection, home: str, wanted: Sequence[TableWanted], *, baseline: bool) -> list[str]:
    """See `history.install.install`."""
    dbapi = driver_connection(connection)
    if not dbapi.in_transaction:
        dbapi.execute("BEGIN IMMEDIATE")
    known = sqlite_shapes(connection, home)
    tables = [find(dbapi, each, shapes_of(known, each.name)) for each in wanted]
    changed = []
    for table in tables:
        shapes = shapes_of(known, table.name)
        shape = shapes[-1] if shapes else None
        if not baseline and fits(dbapi, table, shape):
            continue
        _renew(dbapi, table, _numbers(dbapi, table, shapes), is_baseline=baseline or not was_recorded(dbapi, shape))
        changed.append(table.name)
    return changed


def remove(connection: Connection, home: str, wanted: Sequence[TableWanted]) -> list[str]:
    """See `history.install.remove`."""
    dbapi = driver_connection(connection)
    if not dbapi.in_transaction:
        dbapi.execute("BEGIN IMMEDIATE")
    tables = [find(dbapi, each._replace(withheld=()), ()) for each in wanted]
    return [table.name for table in tables if _drop(dbapi, triggers_of(dbapi, table.name))]


def _drop(dbapi: Any, names: Collection[str]) -> bool:
    for name in names:
        dbapi.execute(f"DROP TRIGGER IF EXISTS main.{quoted(name)}")
    return bool(names)


def _numbers(dbapi: Any, table: Table, shapes: Sequence[Shape]) -> list[int]:
    """What tells a column that was renamed from another one: the triggers' text follows a RENAME COLUMN by itself."""
    held: dict[str, int] = {}
    if shapes:
        last = shapes[-1]
        made = triggers_of(dbapi, table.name).get(f"actionbus_i_{last.table_name}", "")
        names = [each.replace('""', '"') for each in _NEW.findall(made)]
        names = names[-len(last.columns) :] if was_recorded(dbapi, last) else list(last.columns)
        held = dict(zip(names, last.numbers, strict=True)) if last.numbers else {}
    fresh = count(1 + max((number for shape in shapes for number in shape.numbers), default=0))
    return [held[name] if name in held else next(fresh) for name in table.columns]


def _renew(dbapi: Any, table: Table, numbers: Sequence[int], *, is_baseline: bool) -> None:
    cover(dbapi)  # lest a baseline's images be taken for those of whom wrote before it
    _drop(dbapi, {*triggers_of(dbapi, table.name), *wanted_triggers(table, 0)})
    widen(dbapi, len(table.columns))
    before = last_image(dbapi)
    told = (table.columns, table.types, table.key, table.withheld, numbers)
    # In the letters of the names, as SQLite compares them and people read them, hence not `values.payload`.
    lists = [json.dumps(each, ensure_ascii=False) for each in told]
    shape = dbapi.execute(
        f"INSERT INTO main.{SHAPES} (table_name, columns, types, key, withheld, numbers, is_baseline, since_image, "
        "since_position) VALUES (?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(position), 0) FROM main.journal))",
        (table.name, *lists, is_baseline, before),
    ).lastrowid
    for sql in wanted_triggers(table, shape).values():
        dbapi.execute(sql.replace("CREATE TRIGGER ", "CREATE TRIGGER main.", 1))
    if is_baseline:
        insert = into(table, "n").replace("INTO ", "INTO main.", 1)
        copied = values(table, shape, BASELINE, "", ("",))
        dbapi.execute(f"{insert} SELECT {copied} FROM main.{quoted(table.name)}")
        if (upto := last_image(dbapi)) > before:
            append_bypass(dbapi, before, upto, {"baseline": [table.name]})


def widen(dbapi: Any, count: int) -> None:
    """See that an image has room for so many values before and after."""
    there = {row[1] for row in dbapi.execute(f"PRAGMA main.table_info({IMAGES})")}
    for name in (f"{side}{number}" for number in range(1, count + 1) for side in "on"):
        if name not in there:
            dbapi.execute(f"ALTER TABLE main.{IMAGES} ADD COLUMN {name}")
