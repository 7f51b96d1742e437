"""An application's own Alembic history, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, MetaData

ENV = """
from alembic import context
from actionbus.alembic import include_name
attributes = context.config.attributes

def also_mine(name, type_, parent_names):
    return include_name(name, type_, parent_names) and name != "left_alone"

hooks = {"ours": {"include_name": include_name}, "composed": {"include_name": also_mine}, "none": {}}
context.configure(
    connection=attributes["connection"], target_metadata=attributes["models"], include_schemas=attributes["schemas"],
    **hooks[attributes["hook"]],
)
with context.begin_transaction():
    context.run_migrations()
"""
TEMPLATE = """revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
from alembic import op
import sqlalchemy as sa
def upgrade():
    ${upgrades if upgrades else "pass"}
def downgrade():
    ${downgrades if downgrades else "pass"}
"""


def run_script(engine: Engine, script: str) -> None:
    """Run a printed script as a DBA would."""
    raw = engine.raw_connection()
    if engine.dialect.name == "sqlite":
        raw.driver_connection.executescript(script)  # type: ignore[union-attr]
    else:
        raw.cursor().execute(script)
    raw.commit()
    raw.close()


class Own:
    """An application's history."""

    def __init__(self, engine: Engine, folder: Path, hook: str, models: MetaData, schemas: bool) -> None:
        self.engine, self.folder = engine, folder
        (folder / "versions").mkdir(parents=True)
        (folder / "env.py").write_text(ENV)
        (folder / "script.py.mako").write_text(TEMPLATE)
        self.config = Config()
        self.config.set_main_option("script_location", str(folder))
        self.config.set_main_option("path_separator", "os")
        self.config.attributes |= {"models": models, "hook": hook, "schemas": schemas}

    def do(self, what: Any, *args: Any, **options: Any) -> None:
        with self.engine.begin() as connection:
            self.config.attributes["connection"] = connection
            what(self.config, *args, **options)

    def generate(self, revision: str) -> str:
        """Autogenerate a revision; its text."""
        self.do(command.revision, autogenerate=True, message="x", rev_id=revision)
        return next(self.folder.glob(f"versions/{revision}*")).read_text()
