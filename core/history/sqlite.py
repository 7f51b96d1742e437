"""Capturing on SQLite: triggers that write each changed row's values, as they are, into columns without a type.

Called by `history.install`. A trigger's own statements, and the names in them, are SQLite's to find in the file the
table is in, so that no temporary table can stand in their way.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from actionbus.core.errors import ConfigurationError
from actionbus.core.history.shapes import BASELINE, Shape, TableStatus, TableWanted, latest, read_shapes
from actionbus.core.storage.backend import Backend, quoted
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.history_ddl import IMAGES, SHAPES
from actionbus.core.storage.sqlite_images import append_bypass, cover, last_image

_OWN_COLUMNS: Final = 5
"""Of an image, besides the values before and after."""
_VIRTUAL: Final = 2
_HIDDEN: Final = 1
_NAMES: Final = re.compile(r'\b(OLD|NEW)\."(?:[^"]|"")*"')


class _Table(NamedTuple):
    """A table as the catalogue has it, of its columns those that are recorded."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    key: tuple[str, ...]
    withheld: tuple[str, ...]


def install(backend: Backend, connection: Connection, wanted: Sequence[TableWanted], *, baseline: bool) -> list[str]:
    """See `history.install.install`."""
    dbapi = driver_connection(connection)
    if not dbapi.in_transaction:
        dbapi.execute("BEGIN IMMEDIATE")
    known = latest(read_shapes(connection, backend.prefix))
    tables = [_find(dbapi, each) for each in wanted]
    changed = []
    for table in tables:
        shape = known.get(table.name)
        if not baseline and _fits(dbapi, table, shape):
            continue
        _renew(dbapi, table, is_baseline=baseline or not _was_recorded(dbapi, shape))
        changed.append(table.name)
    return changed


def status(backend: Backend, connection: Connection, wanted: Sequence[TableWanted] | None) -> list[TableStatus]:
    """See `history.install.status`."""
    dbapi = driver_connection(connection)
    shapes = read_shapes(connection, backend.prefix)
    known = latest(shapes)
    if wanted is None:
        wanted = [TableWanted(name, None, known[name].withheld) for name in sorted(known)]
    return [_status(dbapi, each, [s for s in shapes if s.table_name.lower() == each.name.lower()]) for each in wanted]


def _status(dbapi: Any, wanted: TableWanted, shapes: Sequence[Shape]) -> TableStatus:
    shape = shapes[-1] if shapes else None
    begun = next((each for each in reversed(shapes) if each.is_baseline), None)
    images, size = _size(dbapi, shapes)
    return TableStatus(
        shape.table_name if shape else wanted.name,
        begun.since if begun else None,
        begun.since_image if begun else None,
        tuple(_problems(dbapi, wanted, shape)),
        shape.withheld if shape else wanted.withheld,
        shape.columns if shape else (),
        images,
        size,
    )


def _problems(dbapi: Any, wanted: TableWanted, shape: Shape | None) -> Iterator[str]:
    try:
        table = _find(dbapi, wanted)
    except ConfigurationError as error:
        yield from error.problems
        return
    if shape is None:
        yield f"{table.name} is not recorded"
        return
    there = _triggers(dbapi, table.name)
    should = _wanted_triggers(table, shape.shape)
    if missing := [name for name in should if name not in there]:
        yield f"triggers of {table.name} are missing: {', '.join(missing)}"
    elif not _was_recorded(dbapi, shape):
        yield f"triggers of {table.name} are not those that were installed"
    if new := [name for name in table.columns if name not in shape.columns]:
        yield f"columns of {table.name} are not recorded yet: {', '.join(new)}"
    if gone := [name for name in shape.columns if name not in table.columns]:
        yield f"columns that are recorded are no longer in {table.name}: {', '.join(gone)}"
    if not new and not gone and (table.types, table.key) != (shape.types, shape.key):
        yield f"types or key of {table.name} have changed"


def _size(dbapi: Any, shapes: Sequence[Shape]) -> tuple[int, int]:
    images = size = 0
    for shape in shapes:
        values = [f"{side}{number}" for number in range(1, len(shape.columns) + 1) for side in "on"]
        lengths = (f"coalesce(length(CAST({each} AS BLOB)), 0)" for each in ("key", *values))
        # One sum for each value: a sum of sums would be too deep an expression for a wide table.
        sums = ", ".join(f"sum({each})" for each in lengths)
        row = dbapi.execute(f"SELECT count(*), {sums} FROM main.{IMAGES} WHERE shape = ?", (shape.shape,)).fetchone()
        images += row[0]
        size += sum(each or 0 for each in row[1:])
    return images, size


def _find(dbapi: Any, wanted: TableWanted) -> _Table:
    """Raises ConfigurationError for what cannot be recorded."""
    found = dbapi.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE", (wanted.name,)
    ).fetchone()
    if found is None:
        raise ConfigurationError([f"there is no table {wanted.name}, whose rows could be recorded"])
    name, sql = found
    if sql.upper().startswith("CREATE VIRTUAL"):
        raise ConfigurationError([f"{name} is a virtual table, on which SQLite lets no trigger stand"])
    withheld = {each.lower() for each in wanted.withheld}
    # What a virtual column computes may fail, and a trigger must not; its sources are recorded.
    rows = dbapi.execute(f"PRAGMA main.table_xinfo({quoted(name)})").fetchall()
    recorded = [r for r in rows if r[6] not in (_HIDDEN, _VIRTUAL) and r[1].lower() not in withheld]
    if 2 * len(recorded) + _OWN_COLUMNS > dbapi.getlimit(sqlite3.SQLITE_LIMIT_COLUMN):
        raise ConfigurationError(
            [f"{name} has {len(recorded)} columns, of which an image holds each twice: more than SQLite lets a table "
             "have; leave it out with Application(unrecorded=[…])"]
        )  # fmt: skip
    key = [r[1] for r in sorted(rows, key=lambda r: r[5]) if r[5]]
    is_told = not any(each.lower() in withheld for each in key)
    return _Table(
        name,
        tuple(r[1] for r in recorded),
        tuple(r[2] for r in recorded),
        tuple(key) if is_told else (),
        tuple(r[1] for r in rows if r[1].lower() in withheld),
    )


def _fits(dbapi: Any, table: _Table, shape: Shape | None) -> bool:
    """Whether the triggers are what they should be, and write what the table has."""
    if shape is None or table != (shape.table_name, shape.columns, shape.types, shape.key, shape.withheld):
        return False
    return _triggers(dbapi, table.name) == _wanted_triggers(table, shape.shape)


def _was_recorded(dbapi: Any, shape: Shape | None) -> bool:
    """Whether its triggers have stood since the shape was made, whatever its columns are called by now."""
    if shape is None:
        return False
    as_made = _Table(shape.table_name, shape.columns, shape.types, shape.key, shape.withheld)
    there, made = _triggers(dbapi, shape.table_name), _wanted_triggers(as_made, shape.shape)
    return _without_names(there) == _without_names(made)


def _without_names(triggers: dict[str, str]) -> dict[str, str]:
    return {name: _NAMES.sub(r"\1", sql) for name, sql in triggers.items()}


def _triggers(dbapi: Any, table: str) -> dict[str, str]:
    """Those of ours that stand on a table, by name."""
    found = dbapi.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE "
        "AND name GLOB 'actionbus_[iukd]_*'",
        (table,),
    )
    return dict(found.fetchall())


def _renew(dbapi: Any, table: _Table, *, is_baseline: bool) -> None:
    cover(dbapi)  # lest a baseline's images be taken for those of whom wrote before it
    for name in {*_triggers(dbapi, table.name), *_wanted_triggers(table, 0)}:
        dbapi.execute(f"DROP TRIGGER IF EXISTS main.{quoted(name)}")
    widen(dbapi, len(table.columns))
    before = last_image(dbapi)
    lists = [json.dumps(each, ensure_ascii=False) for each in (table.columns, table.types, table.key, table.withheld)]
    shape = dbapi.execute(
        f"INSERT INTO main.{SHAPES} (table_name, columns, types, key, withheld, is_baseline, since_image) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (table.name, *lists, is_baseline, before),
    ).lastrowid
    for sql in _wanted_triggers(table, shape).values():
        dbapi.execute(sql.replace("CREATE TRIGGER ", "CREATE TRIGGER main.", 1))
    if is_baseline:
        into = _into(table, "n").replace("INTO ", "INTO main.", 1)
        values = _values(table, shape, BASELINE, "", ("",))
        dbapi.execute(f"{into} SELECT {values} FROM main.{quoted(table.name)}")
        if (upto := last_image(dbapi)) > before:
            append_bypass(dbapi, before, upto, {"baseline": [table.name]})


def widen(dbapi: Any, count: int) -> None:
    """See that an image has room for so many values before and after."""
    there = {row[1] for row in dbapi.execute(f"PRAGMA main.table_info({IMAGES})")}
    for name in (f"{side}{number}" for number in range(1, count + 1) for side in "on"):
        if name not in there:
            dbapi.execute(f"ALTER TABLE main.{IMAGES} ADD COLUMN {name}")


def _wanted_triggers(table: _Table, shape: int) -> dict[str, str]:
    """By name, as SQLite keeps their text."""
    same = " AND ".join(f"OLD.{quoted(each)} IS NEW.{quoted(each)}" for each in table.key) or "1"
    on = f"ON {quoted(table.name)}"
    delete = f"{_into(table, 'o')} VALUES ({_values(table, shape, 'd', 'OLD.', ('OLD.',))});"
    insert = f"{_into(table, 'n')} VALUES ({_values(table, shape, 'i', 'NEW.', ('NEW.',))});"
    update = f"{_into(table, 'on')} VALUES ({_values(table, shape, 'u', 'NEW.', ('OLD.', 'NEW.'))});"
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


def _into(table: _Table, sides: str) -> str:
    numbers = range(1, len(table.columns) + 1)
    columns = ["shape", "operation", "key", "at", *(f"{side}{number}" for side in sides for number in numbers)]
    return f"INSERT INTO {IMAGES} ({', '.join(columns)})"


def _values(table: _Table, shape: int, operation: str, key_of: str, rows: Sequence[str]) -> str:
    if len(table.key) == 1:
        key = f"{key_of}{quoted(table.key[0])}"
    else:
        key = " || ',' || ".join(f"quote({key_of}{quoted(each)})" for each in table.key) or "NULL"
    values = (f"{row}{quoted(column)}" for row in rows for column in table.columns)
    return ", ".join([str(shape), f"'{operation}'", key, "julianday('now')", *values])
