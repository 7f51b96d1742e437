"""An application's own migrations renew what records its rows; one that forgets is noticed, and no write ever fails."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, text
from sqlalchemy.engine import URL

from actionbus import Application, Bus, ConfigurationError
from actionbus.core.history.answers import Columns
from actionbus.core.history.decoding import UNKNOWN
from tests.adapters.migrations.own import Own
from tests.helpers import Run

SCRIPT = """import sqlalchemy as sa
from alembic import op

revision, down_revision = {revision!r}, {before!r}


def upgrade():
    {upgrade}


def downgrade():
    {downgrade}
"""
CREATE = [
    'op.create_table("items", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(9)),'
    ' sa.Column("secret", sa.String(9)))',
    'op.record_history("items", withhold=["secret"])',
]
CHANGES = {
    "add": ('op.add_column("items", sa.Column("size", sa.Integer))', "size"),
    "rename": ('op.alter_column("items", "name", new_column_name="title")', "title"),
    "rename what is withheld": ('op.alter_column("items", "secret", new_column_name="token")', ""),
}
"""How a migration changes columns, and the column that nobody records until the operation renews it."""
BATCH = (
    'with op.batch_alter_table("items", recreate="always") as batch: batch.add_column(sa.Column("size", sa.Integer))'
)


class Shop:
    """A database with a journal, and an application's migrations."""

    def __init__(self, url: URL, folder: Path) -> None:
        self.models = MetaData()
        self.bus = Bus(Application("shop", actions=["tests.core.no_actions"], models=self.models), url)
        self.bus.journal.create()
        self.own = Own(self.bus.engine, folder, "ours", self.models, False)
        self.count = 0

    def migrate(self, *upgrade: str, downgrade: str = "pass") -> None:
        """Write a migration and run it."""
        self.count += 1
        script = SCRIPT.format(
            revision=f"r{self.count}",
            before=f"r{self.count - 1}" if self.count > 1 else None,
            upgrade="\n    ".join(upgrade),
            downgrade=downgrade,
        )
        (self.own.folder / "versions" / f"r{self.count}.py").write_text(script)
        self.own.do(command.upgrade, "head")

    def run(self, sql: str, **values: Any) -> None:
        with self.bus.engine.begin() as connection:
            connection.execute(text(sql), values)

    def state(self) -> list[Columns]:
        (rows,) = self.bus.history.state().tables.values()
        return sorted(rows, key=lambda row: row["id"])

    def problems(self) -> tuple[str, ...]:
        (status,) = self.bus.history.status()
        return status.problems


@pytest.fixture
def shop(url: URL, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(url, tmp_path / "own")
    made.migrate(*CREATE)
    made.run("INSERT INTO items VALUES (1, 'a', 'hush')")
    yield made
    made.bus.close()


def test_a_table_that_a_migration_makes_is_recorded(shop: Shop) -> None:
    assert shop.problems() == ()
    assert shop.state() == [{"id": 1, "name": "a"}]
    assert shop.bus.history.status()[0].withheld == ("secret",)


@pytest.mark.parametrize("how", CHANGES)
def test_columns_that_change_with_the_operation_after(shop: Shop, how: str) -> None:
    change, column = CHANGES[how]
    shop.migrate(change, 'op.record_history("items")')
    assert shop.problems() == ()
    shop.run("INSERT INTO items (id) VALUES (2)")
    assert shop.problems() == ()
    assert set(shop.state()[1]) == {"id", "name", column or "name"} - ({"name"} if column == "title" else set())
    assert "hush" not in str(images(shop))


@pytest.mark.parametrize("how", CHANGES)
def test_columns_that_change_without_are_named_and_no_write_fails(shop: Shop, how: str, run: Run) -> None:
    change, column = CHANGES[how]
    shop.migrate(change)
    assert any(column in problem for problem in shop.problems())
    shop.run("INSERT INTO items (id) VALUES (2)")
    shop.run("UPDATE items SET id = 3 WHERE id = 2")
    assert len(shop.state()) == 2
    assert column in run("history", "status", "--check", code=1).stdout
    shop.bus.history.status()
    shop.migrate('op.record_history("items")')
    run("history", "status", "--check")
    if how == "add":
        assert [row["size"] for row in shop.state()] == [UNKNOWN, UNKNOWN]
        shop.run("UPDATE items SET size = 7")
        assert [row["size"] for row in shop.state()] == [7, 7]
    assert "hush" not in str(images(shop))


def images(shop: Shop) -> Any:
    with shop.bus.engine.connect() as connection:
        return connection.execute(text("SELECT * FROM actionbus_images")).all()


def test_a_dropped_column(shop: Shop) -> None:
    """SQLite keeps a column that a trigger names, so its triggers have to go first."""
    if shop.bus.engine.dialect.name == "sqlite":
        shop.migrate('op.leave_unrecorded("items")', 'op.drop_column("items", "name")', 'op.record_history("items")')
    else:
        shop.migrate('op.drop_column("items", "name")')
        assert any("name is gone" in problem for problem in shop.problems())
        shop.run("INSERT INTO items (id) VALUES (2)")
        assert set(shop.state()[1]) >= {"id"}
        shop.migrate('op.record_history("items")')
    assert shop.problems() == ()
    shop.run("INSERT INTO items (id) VALUES (7)")
    assert shop.state()[-1] == {"id": 7}
    assert "hush" not in str(images(shop))


def test_batch_mode_drops_triggers_silently_which_is_noticed_and_mended(
    sqlite_url: URL, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(sqlite_url, tmp_path / "own")
    shop.migrate(*CREATE)
    shop.run("INSERT INTO items VALUES (1, 'a', 'hush')")
    shop.migrate(BATCH)
    shop.run("UPDATE items SET name = 'unseen'")
    assert "triggers of items are missing" in shop.problems()[0]
    answer = shop.bus.history.state("items")
    assert answer.basis.tables[0].unrecorded_since is not None
    assert answer.tables["items"] == [{"id": 1, "name": "a"}]
    shop.migrate('op.record_history("items")')
    assert shop.problems() == ()
    assert shop.state() == [{"id": 1, "name": "unseen", "size": None}]
    shop.migrate(BATCH.replace("size", "more"), 'op.record_history("items")')
    assert shop.problems() == ()
    assert "hush" not in str(images(shop))
    shop.bus.close()


def test_the_models_say_what_is_withheld(url: URL, tmp_path: Path) -> None:
    shop = Shop(url, tmp_path / "own")
    Table(
        "items",
        shop.models,
        Column("id", Integer, primary_key=True),
        Column("name", String(9)),
        Column("secret", String(9), info={"sensitive": True}),
        Column("later", String, info={"sensitive": True}),
    )
    shop.migrate(CREATE[0], 'op.record_history("items")')
    assert shop.bus.history.status()[0].withheld == ("secret",)
    shop.bus.close()


def test_going_back_and_what_is_refused(shop: Shop) -> None:
    shop.migrate('op.record_history("items", baseline=True)', downgrade='op.leave_unrecorded("items")')
    shop.own.do(command.downgrade, "-1")
    assert shop.problems() != ()
    assert shop.state() == [{"id": 1, "name": "a"}], "what was recorded stays"
    with pytest.raises(ConfigurationError, match="there is no table nothing"):
        shop.migrate('op.record_history("nothing")')


def test_without_a_journal_a_migration_runs_and_says_so(
    url: URL, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(url)
    own = Own(engine, tmp_path / "own", "ours", MetaData(), False)
    script = SCRIPT.format(revision="r1", before=None, upgrade="\n    ".join(CREATE), downgrade="pass")
    (own.folder / "versions" / "r1.py").write_text(script)
    with caplog.at_level(logging.WARNING, logger="actionbus"):
        own.do(command.upgrade, "head")
    assert "the rows of items are not recorded, since the database has no journal" in caplog.text
    engine.dispose()


def test_printed_sql_says_where_the_command_is_to_be_run(shop: Shop, tmp_path: Path) -> None:
    (shop.own.folder / "env.py").write_text(
        "from alembic import context\nimport actionbus.alembic\n"
        f"context.configure(dialect_name={shop.bus.engine.dialect.name!r})\n"
        "with context.begin_transaction():\n    context.run_migrations()\n"
    )
    config = Config(output_buffer=io.StringIO())
    config.set_main_option("script_location", str(shop.own.folder))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head", sql=True)
    assert "here run: actionbus history install items" in config.output_buffer.getvalue()  # type: ignore[attr-defined]


GENERATING = """
from alembic import context
from actionbus.alembic import include_name, renew_history
attributes = context.config.attributes
context.configure(connection=attributes["connection"], target_metadata=attributes["models"], include_name=include_name,
                  process_revision_directives=renew_history)
with context.begin_transaction():
    context.run_migrations()
"""


@pytest.mark.filterwarnings(
    "ignore:Skipped unsupported reflection"
)  # Alembic looks at all there is, then leaves ours out
def test_generated_migrations_renew_what_they_change(url: URL, tmp_path: Path) -> None:
    def declared(*more: Column[Any]) -> MetaData:
        models = MetaData()
        Table(
            "items",
            models,
            Column("id", Integer, primary_key=True),
            Column("secret", String(9), info={"sensitive": True}),
            *more,
        )
        Table("logs", models, Column("id", Integer, primary_key=True))
        shop.own.config.attributes["models"] = models
        Application("shop", actions=["tests.core.no_actions"], models=models, unrecorded=["logs"])
        return models

    shop = Shop(url, tmp_path / "own")
    (shop.own.folder / "env.py").write_text(GENERATING)
    declared()
    first = shop.own.generate("g1")
    assert first.count("op.record_history(") == 1
    assert "op.record_history('items', withhold=['secret'])" in first
    shop.own.do(command.upgrade, "head")
    assert shop.problems() == ()
    declared(Column("size", Integer))
    with pytest.raises(CommandError, match="New upgrade operations detected"):
        shop.own.do(command.check)
    second = shop.own.generate("g2")
    assert second.count("op.record_history('items'") == 2, "there and back"
    shop.own.do(command.upgrade, "head")
    assert shop.problems() == ()
    assert shop.bus.history.status()[0].columns == ("id", "size")
    shop.own.do(command.check)
    assert "op." not in shop.own.generate("g3")
    if url.get_backend_name() == "postgresql":  # SQLite drops no column that a trigger names
        shop.own.do(command.upgrade, "head")
        shop.own.do(command.downgrade, "g1")
        assert shop.problems() == ()
        assert shop.bus.history.status()[0].columns == ("id",)
    shop.bus.close()
