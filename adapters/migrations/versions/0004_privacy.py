"""Privacy: what is personal, erasures, keys of subjects."""

from alembic import context, op
from sqlalchemy import text

from actionbus.core.storage import ddl, privacy_ddl
from actionbus.core.storage.backend import in_text, quoted

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the tables, and the one way to change an image."""
    dialect = op.get_context().dialect.name
    for statement in ddl.statements(dialect, revision, context.config.attributes.get("schema")):
        op.execute(statement)


def downgrade() -> None:
    """Remove it all, but not where something was erased, or encrypted with keys that would be lost."""
    schema = context.config.attributes.get("schema")
    dialect = op.get_context().dialect.name
    prefix = f"{quoted(schema)}." if schema else ""
    for table in (privacy_ddl.KEYS, privacy_ddl.ERASURES):
        if op.get_bind().execute(text(f"SELECT 1 FROM {in_text(prefix)}{table} LIMIT 1")).first() is not None:
            raise RuntimeError(
                "personal values were encrypted or erased, which a journal without these tables could not read; "
                "drop them by hand if you must"
            )
    if dialect == "postgresql":
        op.execute(ddl.keeper("0003", schema))
    for statement in privacy_ddl.removal(dialect, prefix):
        op.execute(ddl.verbatim(statement))
