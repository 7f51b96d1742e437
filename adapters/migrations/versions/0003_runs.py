"""Queued actions: the runs on their way to a worker."""

from alembic import context, op

from actionbus.core.storage import ddl

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table of runs."""
    dialect = op.get_context().dialect.name
    for statement in ddl.statements(dialect, revision, context.config.attributes.get("schema")):
        op.execute(statement)


def downgrade() -> None:
    """Remove it: what was queued stays in the journal, and `actionbus journal recover` settles it."""
    schema = context.config.attributes.get("schema")
    if op.get_context().dialect.name == "postgresql":
        op.execute(ddl.keeper("0002", schema))
    op.drop_table("actionbus_runs", schema=schema)
