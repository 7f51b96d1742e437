"""Alembic's entry: `adapters.database` hands it a connection, or a dialect's name to print SQL for."""

from alembic import context
from sqlalchemy.schema import CreateSchema

from actionbus.core.storage.ddl import VERSION_TABLE, begin_alone

attributes = context.config.attributes
schema = attributes.get("schema")

if context.is_offline_mode():
    context.configure(
        dialect_name=attributes["dialect"],
        version_table=VERSION_TABLE,
        version_table_schema=schema,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},  # else percent signs are doubled, for a driver that is not there
    )
    if schema:
        context.execute(CreateSchema(schema, if_not_exists=True))
else:
    begin_alone(attributes["connection"])
    if schema:
        attributes["connection"].execute(CreateSchema(schema, if_not_exists=True))
    context.configure(connection=attributes["connection"], version_table=VERSION_TABLE, version_table_schema=schema)

with context.begin_transaction():
    context.run_migrations()
