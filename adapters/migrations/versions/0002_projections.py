"""Projections: the journal's identity and their checkpoints."""

from alembic import context, op

from actionbus.core.storage import ddl

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables of projections."""
    dialect = op.get_context().dialect.name
    for statement in ddl.statements(dialect, revision, context.config.attributes.get("schema")):
        op.execute(statement)


def downgrade() -> None:
    """Remove them: everything in them can be made anew from the journal, but the identity."""
    schema = context.config.attributes.get("schema")
    if op.get_context().dialect.name == "postgresql":
        op.execute(ddl.keeper("0001", schema))
    for table in ("actionbus_checkpoints", "actionbus_identity"):
        op.drop_table(table, schema=schema)
