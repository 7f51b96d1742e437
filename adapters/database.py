"""Migrations of the journal, by Alembic; called by `actionbus db` and by tests.

They keep their state in a table of their own, `actionbus_version`, so an application's Alembic history lives beside.
"""

from __future__ import annotations

import io
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from actionbus.core import ActionBusError
from actionbus.core.storage.ddl import VERSION_TABLE

_SCRIPTS = Path(__file__).parent / "migrations"


class MadeByAnotherVersion(ActionBusError):
    """The journal's tables are at a revision that this version does not have; the message says which."""


def upgrade(engine: Engine, schema: str | None = None, revision: str = "head") -> None:
    """Bring the journal's tables up to `revision`. Raises MadeByAnotherVersion, and changes nothing then."""
    if why := unknown(current(engine, schema)):
        raise MadeByAnotherVersion(f"{why}. Nothing was changed")
    with engine.begin() as connection:
        config = _config(schema)
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def upgrade_sql(dialect: str, schema: str | None = None) -> str:
    """The SQL that `upgrade` would run on an empty database, for a DBA to read and run. `dialect` as in SQLAlchemy."""
    written = io.StringIO()
    config = _config(schema)
    config.output_buffer = written
    config.attributes["dialect"] = dialect
    command.upgrade(config, "head", sql=True)
    return written.getvalue()


def current(engine: Engine, schema: str | None = None) -> str | None:
    """The revision that the database is at, or None before the first."""
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "version_table_schema": schema}
        return MigrationContext.configure(connection, opts=options).get_current_revision()


def head() -> str:
    """The newest revision."""
    return ScriptDirectory.from_config(_config(None)).get_current_head() or ""


def unknown(revision: str | None) -> str | None:
    """What is wrong with a database at a revision that this version does not have; None if it has it."""
    known = {each.revision for each in ScriptDirectory.from_config(_config(None)).walk_revisions()}
    if revision is None or revision in known:
        return None
    return (
        f"the journal's tables are at revision {revision[:100]!r}, which this actionbus does not know (its newest is "
        f"{head()!r}): another version made them, and that one, or one later than both, is to be run here"
    )


def _config(schema: str | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["schema"] = schema
    return config
