"""The journal: its table, indexes, and what keeps it append-only."""

from alembic import context, op

from actionbus.core.storage import ddl

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the journal."""
    dialect = op.get_context().dialect.name
    for statement in ddl.statements(dialect, revision, context.config.attributes.get("schema")):
        op.execute(statement)


def downgrade() -> None:
    """A journal is never removed by a tool."""
    raise RuntimeError(
        "the journal is append-only and is not removed by a migration; drop the table by hand if you must"
    )
