"""All tables of the first release: the journal, the row history, projections, the queue, privacy, archives. Frozen."""

from alembic import context, op

from actionbus.core.storage import ddl

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables, and what keeps them append-only."""
    dialect = op.get_context().dialect.name
    for statement in ddl.statements(dialect, revision, context.config.attributes.get("schema")):
        op.execute(statement)


def downgrade() -> None:
    """A journal is never removed by a tool."""
    raise RuntimeError(
        "the journal is append-only and is not removed by a migration; drop the tables by hand if you must"
    )
