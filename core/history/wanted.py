"""Which tables an application wants recorded, as its models say. Asked by the bus, and where tables are created."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Table

from actionbus.core.declare.application import Application
from actionbus.core.declare.personal import withheld_of
from actionbus.core.history.shapes import TableWanted


def wanted_by(application: Application, options: Mapping[str, Any]) -> list[TableWanted]:
    """Of an application's models all but what it leaves out. `options` are execution options of its database."""
    tables = application.models.tables.values() if application.models is not None else ()
    return wanted_of(tables, application.unrecorded, options)


def wanted_of(tables: Iterable[Table], unrecorded: Collection[str], options: Mapping[str, Any]) -> list[TableWanted]:
    """These tables but for those left out, where `schema_translate_map` puts them."""
    moved: Mapping[str | None, str | None] = options.get("schema_translate_map") or {}
    return [
        TableWanted(
            table.name,
            moved.get(table.schema, table.schema),
            withheld=withheld,
            recorded=tuple(column.name for column in table.columns if column.name not in withheld),
        )
        for table in tables
        if table.key not in unrecorded
        for withheld in [withheld_of(table)]
    ]
