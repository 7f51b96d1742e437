"""Puts the triggers that record rows on PostgreSQL's tables, and looks whether they are as they should be.

The two functions that `history.install` asks for. What a trigger does is written by `history.postgresql_functions`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from actionbus.core.errors import ConfigurationError, JournalUnavailable
from actionbus.core.history import postgresql_functions as sql
from actionbus.core.history.postgresql_catalogue import PINS, Found, Member, children, look, relation_of
from actionbus.core.history.shapes import Shape, TableStatus, TableWanted, read_shapes
from actionbus.core.storage.backend import Backend, in_text, quoted
from actionbus.core.storage.ddl import begin_alone, verbatim
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.history_ddl import last_image
from actionbus.core.storage.missing import NO_JOURNAL
from actionbus.core.storage.positions import find_home

_LOCK_TIMEOUT: Final = "10s"


class _Looked(NamedTuple):
    table: Found
    shape: Shape | None
    """What its triggers write under; None where none of ours is on it."""
    problems: tuple[str, ...]
    """What keeps changes from being recorded, or recorded under the present columns."""
    has_lost: bool
    """Whether changes may not have been recorded, so that only a baseline makes the history whole."""


def install(backend: Backend, connection: Connection, wanted: Sequence[TableWanted], *, baseline: bool) -> list[str]:
    """See `history.install.install`."""
    home = _home(backend, connection)
    asked = _asked(connection, wanted)
    with _pinned(connection):
        if not [each for each in _look(connection, asked, home) if baseline or each.problems or each.shape is None]:
            return []
        begin_alone(connection)
        _lock(connection, asked)
        todo = [each for each in _look(connection, asked, home) if baseline or each.problems or each.shape is None]
        for statement in sql.drifting(home) if todo else ():
            connection.execute(verbatim(statement))
        begun = [each.table.name for each in todo if _renew(connection, each, home, baseline)]
        if todo:
            _record(connection, home, begun)
        return [each.table.name for each in todo]


def status(backend: Backend, connection: Connection, wanted: Sequence[TableWanted] | None) -> list[TableStatus]:
    """See `history.install.status`."""
    home = _home(backend, connection)
    with _pinned(connection, path=False):
        shapes = read_shapes(connection, home)
        asked = _known(connection, shapes) if wanted is None else _asked(connection, wanted, may_miss=True)
    with _pinned(connection):
        sizes = {
            name: (images, size)
            for name, images, size in connection.execute(text(
                "SELECT s.table_name, count(*), sum(coalesce(octet_length(i.before), 0) "
                "+ coalesce(octet_length(i.after), 0) + coalesce(octet_length(i.key), 0)) "
                f"FROM {in_text(home)}actionbus_images i JOIN {in_text(home)}actionbus_shapes s USING (shape) "
                "GROUP BY s.table_name"
            )).all()
        }  # fmt: skip
        return [_status(connection, each, shapes, sizes, home) for each in asked]


class _Asked(NamedTuple):
    name: str
    relation: int | None
    withheld: tuple[str, ...]


def _asked(connection: Connection, wanted: Sequence[TableWanted], *, may_miss: bool = False) -> list[_Asked]:
    """The tables that are meant, and those that inherit from them. Raises ConfigurationError where one is missing."""
    found: dict[int, _Asked] = {}
    missing = []
    for each in wanted:
        name = f"{quoted(each.schema)}.{quoted(each.name)}" if each.schema else quoted(each.name)
        relation = relation_of(connection, name)
        if relation is None:
            missing.append(_Asked(f"{each.schema}.{each.name}" if each.schema else each.name, None, each.withheld))
            continue
        for one in (relation, *children(connection, relation)):
            found.setdefault(one, _Asked(each.name, one, each.withheld))
    if missing and not may_miss:
        raise ConfigurationError([f"there is no table {each.name}" for each in missing])
    return [*found.values(), *missing]


def _known(connection: Connection, shapes: Sequence[Shape]) -> list[_Asked]:
    """All tables that have a history."""
    last = {shape.table_name: shape for shape in shapes if not shape.is_drifted}
    named = ((name, ".".join(quoted(part) for part in name.split(".", 1)), last[name]) for name in sorted(last))
    return [_Asked(name, relation_of(connection, as_sql), shape.withheld) for name, as_sql, shape in named]


def _look(connection: Connection, asked: Sequence[_Asked], home: str) -> list[_Looked]:
    shapes = {shape.shape: shape for shape in read_shapes(connection, home)}
    found = [look(connection, each.relation, each.withheld, home.replace('"', "")) for each in asked if each.relation]
    if wrong := [each for each in found if isinstance(each, str)]:
        raise ConfigurationError(wrong)
    return [_compare(each, shapes, home) for each in found if isinstance(each, Found)]


def _compare(table: Found, shapes: Mapping[int, Shape], home: str) -> _Looked:
    """What differs between a table with its triggers and what they should be."""
    shape = _shape_of(table, shapes)
    if shape is None:
        return _Looked(table, None, (f"no trigger of the row history is on {table.name}",), True)
    lost, stale = [], []
    wanted = sql.functions(table, shape.shape, home)
    for member in table.members:
        for operation in sql.needed(table, member):
            trigger = table.triggers.get((member.relation, f"!actionbus_{operation}"))
            function = wanted[operation]
            if trigger is None:
                lost.append(f"the trigger for {operation} is missing on {member.sql}")
            elif not trigger.is_always:
                lost.append(f"the trigger for {operation} on {member.sql} is switched off, or not ENABLE ALWAYS")
            elif operation != sql.TRUNCATE and trigger.is_by_row != table.is_by_row:
                lost.append(
                    f"the trigger for {operation} on {member.sql} is not by {'row' if table.is_by_row else 'statement'}"
                )
            elif trigger[:4] != (function.name, function.body, function.settings, True):
                stale.append(f"the trigger for {operation} on {member.sql} is not the one for its columns")
    changed = _changes(table, shape)
    lost += [f"{table.name}: rows may have changed without a trigger: {each}" for each in _rewrites(table, shape)]
    return _Looked(table, shape, (*lost, *changed, *stale), bool(lost))


def _shape_of(table: Found, shapes: Mapping[int, Shape]) -> Shape | None:
    """The shape that its triggers write under: their function's name says it, in a restored database too."""
    numbers = {
        int(parts[0])
        for (relation, _), trigger in table.triggers.items()
        if relation == table.relation or table.kind == "p"
        for parts in [trigger.function.removeprefix("actionbus_image_").split("_")]
        if parts[0].isdecimal()
    }
    return shapes.get(max(numbers)) if numbers else None


def _changes(table: Found, shape: Shape) -> list[str]:
    now, then = dict(_typed(table)), dict(zip(shape.columns, shape.types, strict=True))
    changed = [f"{table.name}.{name} is not recorded yet" for name in now if name not in then]
    changed += [f"{table.name}.{name} is gone, or withheld" for name in then if name not in now]
    if not changed and (tuple(now) != shape.columns or now != then or table.withheld != shape.withheld):
        changed.append(f"the columns of {table.name} are others than those recorded")
    return changed


def _rewrites(table: Found, shape: Shape) -> list[str]:
    """What has changed recorded rows, or makes their keys others, though no trigger saw it."""
    now, then = dict(_typed(table)), dict(zip(shape.columns, shape.types, strict=True))
    found = [f"{name} was {then[name]} and is {now[name]}" for name in now if then.get(name, now[name]) != now[name]]
    if table.name != shape.table_name:
        found.append(f"its name was {shape.table_name}")
    if len(table.key) != len(shape.key) or (table.key != shape.key and set(shape.key) <= set(now)):
        found.append(f"its key was ({', '.join(shape.key)}) and is ({', '.join(table.key)})")
    return found


def _typed(table: Found) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in table.columns]


def _renew(connection: Connection, each: _Looked, home: str, baseline: bool) -> bool:
    """Put a table's triggers right; whether it begins with a baseline."""
    table, old = each.table, each.shape
    begins = baseline or old is None or (each.has_lost and not _has_only_new_partitions(connection, each))
    shape = (
        old.shape if old and not begins and not _changes(table, old) else _new_shape(connection, table, begins, home)
    )
    functions = sql.functions(table, shape, home)
    for statement in (line for function in functions.values() for line in function.statements(home)):
        connection.execute(verbatim(statement))
    for member in table.members:
        for operation in sql.needed(table, member):
            for statement in sql.trigger(table, member, operation, functions[operation], home):
                connection.execute(verbatim(statement))
    if begins:
        with _set(connection, {**PINS, "row_security": "off"}):
            connection.execute(verbatim(sql.baseline(table, shape, home)))
    if old is not None and old.shape != shape:
        for operation in functions:
            connection.execute(verbatim(f"DROP FUNCTION IF EXISTS {home}actionbus_image_{old.shape}_{operation}()"))
    return begins


def _has_only_new_partitions(connection: Connection, each: _Looked) -> bool:
    """Whether all that is wrong is that partitions, still empty, have no triggers yet."""
    bare = [m for m in each.table.members if not any(relation == m.relation for relation, _ in each.table.triggers)]
    is_all = all(any(f" on {m.sql}" in problem for m in bare) for problem in each.problems)
    return bool(bare) and is_all and not any(_has_rows(connection, member) for member in bare)


def _has_rows(connection: Connection, member: Member) -> bool:
    return bool(connection.execute(text(f"SELECT EXISTS (SELECT FROM {in_text(member.sql)})")).scalar_one())


def _new_shape(connection: Connection, table: Found, is_baseline: bool, home: str) -> int:
    insert = text(
        f"INSERT INTO {in_text(home)}actionbus_shapes "
        "(table_name, relation, columns, types, numbers, key, withheld, is_baseline, since_image) "
        "VALUES (:name, :relation, CAST(:columns AS text[]), CAST(:types AS text[]), CAST(:numbers AS smallint[]), "
        f"CAST(:key AS text[]), CAST(:withheld AS text[]), :is_baseline, {in_text(last_image(home))}) RETURNING shape"
    )
    values: dict[str, Any] = {
        "name": table.name, "relation": table.relation, "columns": [c.name for c in table.columns],
        "types": [c.type for c in table.columns], "numbers": [c.number for c in table.columns],
        "key": list(table.key), "withheld": list(table.withheld), "is_baseline": is_baseline,
    }  # fmt: skip
    return int(connection.execute(insert, values).scalar_one())


def _record(connection: Connection, home: str, begun: Sequence[str]) -> None:
    """The journal's record of it. It may draw its position now: until the end nobody else writes these tables."""
    connection.execute(
        text(
            f"INSERT INTO {in_text(home)}journal (action_id, kind, action, correlation_id, context) "
            "SELECT own, 'bypass', '', CAST(own AS text), CAST(CAST("
            f"CAST({in_text(home)}actionbus_who() AS jsonb) || jsonb_build_object('baseline', CAST(:begun AS jsonb)) "
            "AS text) AS json) FROM (SELECT gen_random_uuid() AS own) AS made"
        ),
        {"begun": json.dumps(list(begun))},
    )


def _lock(connection: Connection, asked: Sequence[_Asked]) -> None:
    """Nobody else writes these tables any more; readers go on. In one order, so that two installers do not deadlock."""
    with _set(connection, {"lock_timeout": _LOCK_TIMEOUT}):
        for relation in sorted(each.relation for each in asked if each.relation):
            name = connection.execute(
                text("SELECT CAST(CAST(:oid AS oid) AS regclass)::text"), {"oid": relation}
            ).scalar()
            try:
                connection.execute(verbatim(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"))
            except OperationalError as error:
                raise JournalUnavailable(
                    f"{name} could not be locked within {_LOCK_TIMEOUT}, since somebody writes to it or holds it; "
                    "nothing was installed: try again when long transactions on it have ended"
                ) from error


def _status(
    connection: Connection, asked: _Asked, shapes: Sequence[Shape], sizes: Mapping[str, tuple[int, int]], home: str
) -> TableStatus:
    if asked.relation is None:
        return _told(asked.name, shapes, sizes, ("the table is gone",), asked.withheld, ())
    found = look(connection, asked.relation, asked.withheld, home.replace('"', ""))
    if isinstance(found, str):
        return _told(asked.name, shapes, sizes, (found,), asked.withheld, ())
    looked = _compare(found, {shape.shape: shape for shape in shapes}, home)
    columns = looked.shape.columns if looked.shape else ()
    return _told(found.name, shapes, sizes, looked.problems, found.withheld, columns)


def _told(
    name: str, shapes: Sequence[Shape], sizes: Mapping[str, tuple[int, int]], problems: tuple[str, ...],
    withheld: tuple[str, ...], columns: tuple[str, ...],
) -> TableStatus:  # fmt: skip
    begun = [shape for shape in shapes if shape.table_name == name and shape.is_baseline]
    since = begun[-1] if begun else None
    images, size = sizes.get(name, (0, 0))
    return TableStatus(
        name, since and since.since, since and since.since_image, problems, withheld, columns, images, int(size or 0)
    )


def _home(backend: Backend, connection: Connection) -> str:
    home = backend.schema or find_home(driver_connection(connection).cursor())
    if home is None:
        raise JournalUnavailable(NO_JOURNAL)
    return f"{quoted(home)}."


@contextmanager
def _pinned(connection: Connection, *, path: bool = True) -> Iterator[None]:
    """Names and types are written and read in one way, whatever the session's `search_path`."""
    with _set(connection, {"search_path": "pg_catalog, pg_temp"} if path else {}):
        yield


@contextmanager
def _set(connection: Connection, settings: Mapping[str, str]) -> Iterator[None]:
    """Set for a while, within the transaction. After an error the database puts them back."""
    one = text("SELECT current_setting(:name), set_config(:name, :value, true)")
    before = {
        name: connection.execute(one, {"name": name, "value": value}).one()[0] for name, value in settings.items()
    }
    yield
    for name, value in before.items():
        connection.execute(one, {"name": name, "value": value})
