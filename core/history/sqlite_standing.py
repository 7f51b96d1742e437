"""How tables stand on SQLite: what the catalogue has of them and their triggers, beside what is recorded of them.

Asked by `history.sqlite` before it installs, and through `history.databases` by whoever wants to know.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection

from actionbus.core.errors import ConfigurationError, JournalUnavailable
from actionbus.core.history.shapes import Shape, Standing, TableWanted, latest
from actionbus.core.history.sqlite_triggers import Table, wanted_triggers
from actionbus.core.history.withholding import withheld_of
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.history_ddl import IMAGES, SHAPES
from actionbus.core.storage.missing import NO_JOURNAL
from actionbus.core.storage.names import quoted

_HOME: Final = "main."
_OWN_COLUMNS: Final = 5
"""Of an image, besides the values before and after."""
_VIRTUAL: Final = 2
_HIDDEN: Final = 1
_NAMES: Final = re.compile(r'\b(OLD|NEW)\."(?:[^"]|"")*"')


def home_of(connection: Connection, schema: str | None) -> str:
    """See `history.databases`."""
    if not find_homes(connection):
        raise JournalUnavailable(NO_JOURNAL)
    return _HOME


def find_homes(connection: Connection) -> list[str]:
    """See `history.databases`: the file, if it has a journal."""
    names = ("journal", SHAPES)
    found = driver_connection(connection).execute(
        "SELECT count(*) FROM main.sqlite_master WHERE type = 'table' AND name IN (?, ?)", names
    )
    return [_HOME] if found.fetchone()[0] == len(names) else []


def standings(
    connection: Connection, home: str, shapes: Sequence[Shape], wanted: Sequence[TableWanted] | None
) -> list[Standing]:
    """See `history.databases`."""
    dbapi = driver_connection(connection)
    if wanted is None:
        wanted = [TableWanted(name) for name in sorted(latest(shapes))]
    return [_standing(dbapi, each, shapes_of(shapes, each.name)) for each in wanted]


def shapes_of(shapes: Sequence[Shape], name: str) -> list[Shape]:
    """Those of one table, oldest first."""
    return [shape for shape in shapes if shape.table_name.lower() == name.lower()]


def _standing(dbapi: Any, wanted: TableWanted, shapes: Sequence[Shape]) -> Standing:
    shape = shapes[-1] if shapes else None
    try:
        table = find(dbapi, wanted, shapes)
    except ConfigurationError as error:
        name, withheld = (shape.table_name, shape.withheld) if shape else (wanted.name, wanted.withheld)
        is_there = _row_of(dbapi, wanted) is not None
        return Standing(name, shape, tuple(error.problems), (), withheld, is_bare=not is_there, is_there=is_there)
    is_bare = not triggers_of(dbapi, table.name)
    if shape is None:
        return Standing(table.name, None, (f"{table.name} is not recorded",), (), table.withheld, is_bare)
    lost, stale = tuple(_lost(dbapi, table, shape)), tuple(_stale(table, shape))
    return Standing(table.name, shape, lost, stale, table.withheld, is_bare)


def _lost(dbapi: Any, table: Table, shape: Shape) -> Iterator[str]:
    there = triggers_of(dbapi, table.name)
    if missing := [name for name in wanted_triggers(table, shape.shape) if name not in there]:
        yield f"triggers of {table.name} are missing: {', '.join(missing)}"
    elif not was_recorded(dbapi, shape):
        yield f"triggers of {table.name} are not those that were installed"


def _stale(table: Table, shape: Shape) -> Iterator[str]:
    new = [name for name in table.columns if name not in shape.columns]
    gone = [name for name in shape.columns if name not in table.columns]
    if new:
        yield f"columns of {table.name} are not recorded yet: {', '.join(new)}"
    if gone:
        yield f"columns that are recorded are no longer in {table.name}: {', '.join(gone)}"
    if not new and not gone and table != table_of(shape):
        yield f"types, key or order of columns of {table.name}, or what is withheld of it, have changed"


@contextmanager
def glancing(connection: Connection) -> Iterator[None]:
    """See `history.databases`."""
    dbapi = driver_connection(connection)
    dbapi.execute("BEGIN")
    try:
        yield
    finally:
        dbapi.execute("ROLLBACK")


@contextmanager
def apart(connection: Connection) -> Iterator[None]:
    """See `history.databases`."""
    dbapi = driver_connection(connection)
    is_own = not dbapi.in_transaction
    dbapi.execute("BEGIN IMMEDIATE" if is_own else "SAVEPOINT actionbus_install")
    try:
        yield
    except BaseException:
        dbapi.execute("ROLLBACK" if is_own else "ROLLBACK TO actionbus_install")
        if not is_own:
            dbapi.execute("RELEASE actionbus_install")
        raise
    dbapi.execute("COMMIT" if is_own else "RELEASE actionbus_install")


def sizes(connection: Connection, home: str, shapes: Sequence[Shape]) -> dict[str, tuple[int, int]]:
    """See `history.databases`."""
    dbapi = driver_connection(connection)
    found: dict[str, tuple[int, int]] = {}
    for shape in shapes:
        values = [f"{side}{number}" for number in range(1, len(shape.columns) + 1) for side in "on"]
        lengths = (f"coalesce(length(CAST({each} AS BLOB)), 0)" for each in ("key", *values))
        # One sum for each value: a sum of sums would be too deep an expression for a wide table.
        sums = ", ".join(f"sum({each})" for each in lengths)
        row = dbapi.execute(f"SELECT count(*), {sums} FROM main.{IMAGES} WHERE shape = ?", (shape.shape,)).fetchone()
        images, size = found.get(shape.table_name, (0, 0))
        found[shape.table_name] = images + row[0], size + sum(each or 0 for each in row[1:])
    return found


def _row_of(dbapi: Any, wanted: TableWanted) -> Any:
    """The table's name and SQL; None if it is not there."""
    sql = "SELECT name, sql FROM main.sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE"
    return dbapi.execute(sql, (wanted.name,)).fetchone()


def find(dbapi: Any, wanted: TableWanted, before: Sequence[Shape]) -> Table:
    """A table as it stands. Raises ConfigurationError for what cannot be recorded."""
    if wanted.schema not in (None, "main"):
        raise ConfigurationError(
            [
                f"{wanted.schema}.{wanted.name} is in another file, from which no trigger can write to the journal's; "
                "leave it out with Application(unrecorded=[…])"
            ]
        )
    found = _row_of(dbapi, wanted)
    if found is None:
        raise ConfigurationError([f"there is no table {wanted.name}, whose rows could be recorded"])
    name, sql = found
    if sql.upper().startswith("CREATE VIRTUAL"):
        raise ConfigurationError([f"{name} is a virtual table, on which SQLite lets no trigger stand"])
    rows = dbapi.execute(f"PRAGMA main.table_xinfo({quoted(name)})").fetchall()
    withheld = withheld_of(name, wanted, before, dict.fromkeys(r[1] for r in rows), str.lower)
    # What a virtual column computes may fail, and a trigger must not; its sources are recorded.
    recorded = [r for r in rows if r[6] not in (_HIDDEN, _VIRTUAL) and r[1] not in withheld]
    if 2 * len(recorded) + _OWN_COLUMNS > dbapi.getlimit(sqlite3.SQLITE_LIMIT_COLUMN):
        raise ConfigurationError(
            [
                f"{name} has {len(recorded)} columns, of which an image holds each twice: more than SQLite lets a "
                "table have; leave it out with Application(unrecorded=[…])"
            ]
        )
    key = [r[1] for r in sorted(rows, key=lambda r: r[5]) if r[5]]
    is_told = not any(each in withheld for each in key)
    return Table(
        name,
        tuple(r[1] for r in recorded),
        tuple(r[2] for r in recorded),
        tuple(key) if is_told else (),
        withheld,
    )


def fits(dbapi: Any, table: Table, shape: Shape | None) -> bool:
    """Whether the triggers are what they should be, and write what the table has."""
    if shape is None or table != table_of(shape):
        return False
    return triggers_of(dbapi, table.name) == wanted_triggers(table, shape.shape)


def was_recorded(dbapi: Any, shape: Shape | None) -> bool:
    """Whether its triggers have stood since the shape was made, whatever its columns are called by now."""
    if shape is None:
        return False
    there, made = triggers_of(dbapi, shape.table_name), wanted_triggers(table_of(shape), shape.shape)
    return _without_names(there) == _without_names(made)


def table_of(shape: Shape) -> Table:
    """A table as it was when a shape was made of it."""
    return Table(shape.table_name, shape.columns, shape.types, shape.key, shape.withheld)


def _without_names(triggers: dict[str, str]) -> dict[str, str]:
    return {name: _NAMES.sub(r"\1", sql) for name, sql in triggers.items()}


def triggers_of(dbapi: Any, table: str) -> dict[str, str]:
    """Those of ours that stand on a table, by name."""
    found = dbapi.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE "
        "AND name GLOB 'actionbus_[iukd]_*'",
        (table,),
    )
    return dict(found.fetchall())
