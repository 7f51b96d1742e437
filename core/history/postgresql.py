"""Puts the triggers that record rows on PostgreSQL's tables, and takes them away. Called through `history.databases`.

What a trigger does is written by `history.postgresql_functions`; how tables stand is seen by `postgresql_standing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from actionbus.core.errors import JournalUnavailable
from actionbus.core.history import postgresql_functions as sql
from actionbus.core.history.postgresql_catalogue import PINS, CatalogueTable, Member
from actionbus.core.history.postgresql_rows import baseline_of
from actionbus.core.history.postgresql_standing import (
    Finding,
    NamedTable,
    changes,
    find_asked,
    look_all,
    pinned,
    set_for,
)
from actionbus.core.history.shapes import TableWanted
from actionbus.core.storage.ddl import begin_alone, verbatim
from actionbus.core.storage.history_ddl import last_image
from actionbus.core.storage.names import in_text, quoted
from actionbus.core.values import payload

_LOCK_TIMEOUT: Final = "10s"


def install(connection: Connection, home: str, wanted: Sequence[TableWanted], *, baseline: bool) -> list[str]:
    """See `history.install.install`."""
    asked = find_asked(connection, wanted, may_miss=False)
    with pinned(connection):
        if not [each for each in look_all(connection, asked, home) if baseline or not each.is_whole]:
            return []
        begin_alone(connection)
        _lock(connection, asked)
        todo = [each for each in look_all(connection, asked, home) if baseline or not each.is_whole]
        for statement in sql.drifting(home) if todo else ():
            connection.execute(verbatim(statement))
        begun = [each.table.name for each in todo if _renew(connection, each, home, baseline)]
        if todo:
            _record(connection, home, begun)
        return [each.table.name for each in todo]


def remove(connection: Connection, home: str, wanted: Sequence[TableWanted]) -> list[str]:
    """See `history.install.remove`."""
    asked = find_asked(connection, wanted, may_miss=False)
    with pinned(connection):
        begin_alone(connection)
        _lock(connection, asked)
        found = [each for each in look_all(connection, asked, home) if each.table.triggers]
        for each in found:
            _drop(connection, each, home)
        return [each.table.name for each in found]


def _drop(connection: Connection, each: Finding, home: str) -> None:
    for statement in _leaving(each):
        connection.execute(verbatim(statement))
    by_number = {member.relation: member.sql for member in each.table.members}
    for relation, name in each.table.triggers:
        connection.execute(verbatim(f"DROP TRIGGER {quoted(name)} ON {by_number[relation]}"))
    for function in {trigger.function for trigger in each.table.triggers.values()}:
        connection.execute(verbatim(f"DROP FUNCTION IF EXISTS {home}{quoted(function)}()"))


def _renew(connection: Connection, each: Finding, home: str, baseline: bool) -> bool:
    """Put a table's triggers right; whether it begins with a baseline."""
    table, old = each.table, each.shape
    begins = baseline or old is None or (bool(each.lost) and not _has_only_new_partitions(connection, each))
    shape = old.shape if old and not begins and not changes(table, old) else _new_shape(connection, table, begins, home)
    functions = sql.functions(table, shape, home)
    statements = [line for function in functions.values() for line in function.statements(home)] + _leaving(each)
    for member in table.members:
        for operation in sql.needed(table, member):
            statements += sql.trigger(table, member, operation, functions[operation], home)
    statements += sql.noting(table, functions["insert"], home)
    connection.execute(verbatim(";\n".join(statements)))
    if begins:
        with set_for(connection, {**PINS, "row_security": "off"}):
            connection.execute(verbatim(baseline_of(table, shape, home)))
    _drop_unused(connection, table, shape, home)
    return begins


def _leaving(each: Finding) -> list[str]:
    """What takes our triggers from tables that were its partitions."""
    operations = (*sql.OPERATIONS, sql.TRUNCATE)
    return [
        f'DROP TRIGGER IF EXISTS "!actionbus_{operation}" ON {name}'
        for name in each.detached
        for operation in operations
    ]


def _drop_unused(connection: Connection, table: CatalogueTable, shape: int, home: str) -> None:
    """Functions of this table's earlier shapes, those of a table of its name that was dropped among them."""
    unused = text(
        "SELECT quote_ident(p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE n.nspname || '.' = :home "
        "AND p.proname IN (SELECT 'actionbus_image_' || s.shape || '_' || o "
        f"FROM {in_text(home)}actionbus_shapes s, unnest(CAST(:operations AS text[])) o "
        "WHERE s.shape <> :shape AND (s.relation = :relation OR s.table_name = :name)) "
        "AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid)"
    )
    operations = [*sql.OPERATIONS, sql.TRUNCATE]
    values = {
        "home": home.replace('"', ""),
        "operations": operations,
        "shape": shape,
        "relation": table.relation,
        "name": table.name,
    }
    for name in connection.execute(unused, values).scalars().all():
        connection.execute(verbatim(f"DROP FUNCTION {home}{name}()"))


def _has_only_new_partitions(connection: Connection, each: Finding) -> bool:
    """Whether all that is wrong is that partitions, still empty, have no triggers yet."""
    bare = [m for m in each.table.members if not any(relation == m.relation for relation, _ in each.table.triggers)]
    is_all = {lost.relation for lost in each.lost} <= {member.relation for member in bare} and not each.stale
    return bool(bare) and is_all and not any(_has_rows(connection, member) for member in bare)


def _has_rows(connection: Connection, member: Member) -> bool:
    return bool(connection.execute(text(f"SELECT EXISTS (SELECT FROM {in_text(member.sql)})")).scalar_one())


def _new_shape(connection: Connection, table: CatalogueTable, is_baseline: bool, home: str) -> int:
    insert = text(
        f"INSERT INTO {in_text(home)}actionbus_shapes "
        "(table_name, relation, columns, types, numbers, key, withheld, withheld_numbers, is_baseline, "
        "since_image) "
        "VALUES (:name, :relation, CAST(:columns AS text[]), CAST(:types AS text[]), CAST(:numbers AS smallint[]), "
        f"CAST(:key AS text[]), CAST(:withheld AS text[]), "
        f"CAST(:withheld_numbers AS smallint[]), :is_baseline, {in_text(last_image(home))}) RETURNING shape"
    )
    values: dict[str, Any] = {
        "name": table.name,
        "relation": table.relation,
        "columns": [c.name for c in table.columns],
        "types": [c.type for c in table.columns],
        "numbers": [c.number for c in table.columns],
        "key": list(table.key),
        "withheld": list(table.withheld),
        "withheld_numbers": list(table.withheld_numbers),
        "is_baseline": is_baseline,
    }
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
        {"begun": payload.dumps(list(begun))},
    )


def _lock(connection: Connection, asked: Sequence[NamedTable]) -> None:
    """Nobody else writes these tables any more; readers go on. In one order, so that two installers do not deadlock."""
    with set_for(connection, {"lock_timeout": _LOCK_TIMEOUT}):
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
