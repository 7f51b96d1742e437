"""For an application's own Alembic: what is actionbus's is left alone, and rows go on being recorded.

from actionbus.alembic import include_name

context.configure(connection=connection, target_metadata=Base.metadata, include_name=include_name)

With that import, migrations have `op.record_history(table)` and `op.leave_unrecorded(table)`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Final

from alembic import context
from alembic.operations import MigrateOperation, Operations
from alembic.runtime.environment import NameFilterParentNames, NameFilterType
from sqlalchemy import Connection, MetaData, Table, inspect

from actionbus.core.history.databases import database_of
from actionbus.core.history.shapes import TableWanted
from actionbus.core.history.wanted import wanted_of
from actionbus.core.storage.ddl import VERSION_TABLE

log = logging.getLogger("actionbus")
_OWN: Final = ("actionbus_", "projection_words")
"""How names begin that are nobody else's; the second are of SQLite's full-text search."""
_IN_OUR_SCHEMA: Final = frozenset({"journal", "projection_indices", "projection_aliases", "projection_documents"})
"""Names that an application may use for tables of its own, in another schema."""


def include_name(name: str | None, type_: NameFilterType, parent_names: NameFilterParentNames) -> bool:
    """Whether a name in the database is to be compared with the application's models: False for actionbus's tables.

    In whichever schema the journal is. Call it from a hook of your own for what you leave out besides:
    `return include_name(name, type_, parent_names) and name not in mine`.
    """
    if type_ != "table" or name is None:
        return True
    if name.startswith(_OWN):
        return False
    return name not in _IN_OUR_SCHEMA or not _is_ours(parent_names.get("schema_name"))


def _is_ours(schema: str | None) -> bool:
    """Whether the journal is in this schema. Where nobody can be asked, it is: better a table too few than too many."""
    try:
        connection = context.get_bind()
    except (NameError, AttributeError):  # compared by a script: there is no env.py, or none any more
        return True
    return inspect(connection).has_table(VERSION_TABLE, schema=schema)


@Operations.register_operation("record_history")
class RecordHistory(MigrateOperation):
    """`op.record_history`."""

    def __init__(self, wanted: TableWanted, *, baseline: bool) -> None:
        self.wanted = wanted
        self.baseline = baseline

    @classmethod
    def record_history(
        cls, operations: Operations, table: str, *, schema: str | None = None, withhold: Sequence[str] = (),
        record: Sequence[str] = (), baseline: bool = False,
    ) -> None:  # fmt: skip
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
            wanted = _as_modelled(operations, connection, operation.wanted)
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
            "one and records them", _named(wanted),
        )  # fmt: skip
    return homes[0] if homes else None


def _as_modelled(operations: Operations, connection: Connection, wanted: TableWanted) -> TableWanted:
    """With what the models say of the columns that the table has by now."""
    table = _model_of(operations.migration_context.opts.get("target_metadata"), _named(wanted))
    if table is None:
        return wanted
    there = {each["name"] for each in inspect(connection).get_columns(wanted.name, wanted.schema)}
    (modelled,) = wanted_of([table], (), {})
    return wanted._replace(
        withheld=(*wanted.withheld, *(each for each in modelled.withheld if each in there)),
        recorded=(*wanted.recorded, *modelled.recorded),
    )


def _model_of(models: MetaData | Sequence[MetaData] | None, name: str) -> Table | None:
    every: Sequence[Any] = models if isinstance(models, Sequence) else [models] if models is not None else []
    return next((each.tables[name] for each in every if name in each.tables), None)
