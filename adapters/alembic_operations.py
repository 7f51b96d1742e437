"""`op.record_history` and `op.leave_unrecorded`, and what writes them into generated migrations.

For an application's own Alembic; they are there once `actionbus.alembic` is imported, as its `env.py` does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations, ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData

from actionbus.core.declare.application import UNRECORDED
from actionbus.core.history.databases import database_of
from actionbus.core.history.shapes import TableWanted
from actionbus.core.history.wanted import as_modelled, wanted_of

log = logging.getLogger("actionbus")
_OF_COLUMNS: Final = (ops.AddColumnOp, ops.DropColumnOp, ops.AlterColumnOp)


@Operations.register_operation("record_history")
class RecordHistory(MigrateOperation):
    """`op.record_history`."""

    def __init__(self, wanted: TableWanted, *, baseline: bool) -> None:
        self.wanted = wanted
        self.baseline = baseline

    def to_diff_tuple(self) -> tuple[str, str]:
        """For `alembic check`, which tells what it would write."""
        return "record_history", _named(self.wanted)

    @classmethod
    def record_history(
        cls,
        operations: Operations,
        table: str,
        *,
        schema: str | None = None,
        withhold: Sequence[str] = (),
        record: Sequence[str] = (),
        baseline: bool = False,
    ) -> None:
        """Record all changes of a table's rows, with the columns that it has now. After every change of its columns.

        Never recorded are the columns in `withhold`, those that the models call sensitive, and those that were withheld
        before and are not named in `record`. A table that lost its triggers begins anew, with a copy of its rows; so it
        does with `baseline`. Where there is no journal, nothing is done, and said.

        Raises ConfigurationError for what cannot be recorded.
        """
        operations.invoke(cls(TableWanted(table, schema, tuple(withhold), tuple(record)), baseline=baseline))


@Operations.register_operation("leave_unrecorded")
class LeaveUnrecorded(MigrateOperation):
    """`op.leave_unrecorded`."""

    def __init__(self, wanted: TableWanted) -> None:
        self.wanted = wanted

    @classmethod
    def leave_unrecorded(cls, operations: Operations, table: str, *, schema: str | None = None) -> None:
        """Record a table's rows no more. What was recorded stays."""
        operations.invoke(cls(TableWanted(table, schema)))


@Operations.implementation_for(RecordHistory)
def _record(operations: Operations, operation: RecordHistory) -> None:
    if connection := _connection(operations, f"actionbus history install {_named(operation.wanted)}"):
        database, home = database_of(connection), _home(connection, operation.wanted)
        if home is not None:
            wanted = as_modelled(connection, operation.wanted, _models(operations.migration_context))
            with database.looks.apart(connection):
                database.installs.install(connection, home, [wanted], baseline=operation.baseline)


@Operations.implementation_for(LeaveUnrecorded)
def _leave(operations: Operations, operation: LeaveUnrecorded) -> None:
    if connection := _connection(operations, f"actionbus history stop {_named(operation.wanted)}"):
        database, home = database_of(connection), _home(connection, operation.wanted)
        if home is not None:
            with database.looks.apart(connection):
                database.installs.remove(connection, home, [operation.wanted])


def _connection(operations: Operations, command: str) -> Connection | None:
    """The migration's; None where SQL is only printed: the triggers are made for the table as it is by then."""
    if operations.migration_context.as_sql:
        operations.migration_context.impl.static_output(f"-- not SQL that can be known by now; here run: {command}")
        return None
    return operations.get_bind()


def _named(wanted: TableWanted) -> str:
    return f"{wanted.schema}.{wanted.name}" if wanted.schema else wanted.name


def _home(connection: Connection, wanted: TableWanted) -> str | None:
    looks = database_of(connection).looks
    if schema := os.environ.get("ACTIONBUS_SCHEMA"):
        return looks.home_of(connection, schema)
    homes = looks.find_homes(connection)
    if not homes:
        log.warning(
            "the rows of %s are not recorded, since the database has no journal; `actionbus db upgrade --models` makes "
            "one and records them",
            _named(wanted),
        )
    return homes[0] if homes else None


def _models(context: MigrationContext) -> Sequence[MetaData]:
    models: Any = context.opts.get("target_metadata")
    return list(models) if isinstance(models, Sequence) else [models] if models is not None else []


def renew_history(context: MigrationContext, revision: Any, directives: list[ops.MigrationScript]) -> None:
    """Write `op.record_history` into a generated migration, for each table that it makes or whose columns it changes.

    For `context.configure(process_revision_directives=renew_history)`; call it from a hook of your own. What is
    withheld stands there by name, as the models have it when the migration is generated.
    """
    models = _models(context)
    for script in directives:
        for group in (*script.upgrade_ops_list, *script.downgrade_ops_list):
            tables = dict.fromkeys(_changed(group))
            group.ops += [RecordHistory(each, baseline=False) for each in _modelled(models, tables)]


def _changed(group: ops.OpContainer) -> Iterator[tuple[str, str | None]]:
    for each in group.ops:
        if isinstance(each, ops.CreateTableOp) or (
            isinstance(each, ops.ModifyTableOps) and any(isinstance(one, _OF_COLUMNS) for one in each.ops)
        ):
            yield each.table_name, each.schema


def _modelled(models: Sequence[MetaData], tables: dict[tuple[str, str | None], None]) -> Iterator[TableWanted]:
    for name, schema in tables:
        named = TableWanted(name, schema)
        table = next((each.tables[_named(named)] for each in models if _named(named) in each.tables), None)
        declared = table.metadata.info.get(UNRECORDED, {}) if table is not None else {}
        if table is None or (declared and all(table.key in left_out for left_out in declared.values())):
            continue
        (wanted,) = wanted_of([table], (), {})
        yield named._replace(withheld=wanted.withheld)


@renderers.dispatch_for(RecordHistory)
def _render(context: AutogenContext, operation: RecordHistory) -> str:
    name, schema, withheld, _ = operation.wanted
    told = [repr(name)]
    told += [f"schema={schema!r}"] if schema else []
    told += [f"withhold={[str(each) for each in withheld]!r}"] if withheld else []
    return f"op.record_history({', '.join(told)})"
