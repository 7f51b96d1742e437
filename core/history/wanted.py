"""Which tables an application wants recorded, as its models say. Asked by the bus, and where tables are created."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, MetaData, Table, inspect

from actionbus.core.declare.application import Application
from actionbus.core.declare.personal import withheld_of
from actionbus.core.errors import ConfigurationError
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


def by_name(connection: Connection, name: str) -> TableWanted:
    """The table that somebody calls so, with its schema or without: a name may have a dot of its own."""
    schema, dot, table = name.partition(".")
    if not dot or inspect(connection).has_table(name):
        return TableWanted(name)
    first = TableWanted(table, schema)
    places = (place for place, each in enumerate(name) if each == ".")
    every = (TableWanted(name[place + 1 :], name[:place]) for place in places)
    return next((each for each in every if inspect(connection).has_table(each.name, each.schema)), first)


def as_modelled(connection: Connection, wanted: TableWanted, models: Iterable[MetaData]) -> TableWanted:
    """With what models say of the columns that the table has by now; as it is where they do not have it.

    Raises ConfigurationError for a column that is to be recorded and that they call sensitive.
    """
    name = f"{wanted.schema}.{wanted.name}" if wanted.schema else wanted.name
    table = next((each.tables[name] for each in models if name in each.tables), None)
    if table is None:
        return wanted
    there = {each["name"] for each in inspect(connection).get_columns(wanted.name, wanted.schema)}
    (modelled,) = wanted_of([table], (), {})
    if both := [each for each in wanted.recorded if each in modelled.withheld]:
        raise ConfigurationError(
            [f"{name}.{each} is sensitive by the models, which say first if it is not" for each in both]
        )
    return wanted._replace(
        withheld=(*wanted.withheld, *(each for each in modelled.withheld if each in there)),
        recorded=(*wanted.recorded, *modelled.recorded),
    )
