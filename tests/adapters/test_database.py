"""Migrations: what `db upgrade` makes is what the bus needs, beside an application's own Alembic history."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters import database
from actionbus.core.storage.ddl import LATEST, VERSION_TABLE
from actionbus.core.storage.table import COLUMNS
from tests.conftest import query
from tests.shop.app import Base, make_application


def test_upgrade_makes_a_journal_that_the_bus_can_use(url: URL) -> None:
    engine = create_engine(url)
    assert database.current(engine) is None
    database.upgrade(engine)
    database.upgrade(engine)
    assert database.current(engine) == database.head() == LATEST
    Base.metadata.create_all(engine)
    with Bus(make_application(), engine) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        assert len(list(bus.journal.read())) == 2
    engine.dispose()


def test_create_and_upgrade_make_the_same(url: URL) -> None:
    with Bus(make_application(), url) as bus:
        bus.journal.create()
        assert database.current(bus.engine) == database.head()
        database.upgrade(bus.engine)
        assert [column["name"] for column in inspect(bus.engine).get_columns("journal")] == list(COLUMNS)


def test_the_printed_sql_makes_the_same(url: URL) -> None:
    engine = create_engine(url)
    printed = database.upgrade_sql(engine.dialect.name)
    assert VERSION_TABLE in printed
    raw = engine.raw_connection()
    if engine.dialect.name == "sqlite":
        raw.driver_connection.executescript(printed)  # type: ignore[union-attr]
    else:
        raw.cursor().execute(printed)
    raw.commit()
    raw.close()
    assert database.current(engine) == database.head()
    engine.dispose()


def test_a_schema_of_its_own(postgres_url: URL) -> None:
    engine = create_engine(postgres_url)
    database.upgrade(engine, "audit")
    Base.metadata.create_all(engine)
    assert database.current(engine, "audit") == LATEST
    with Bus(make_application(), engine, schema="audit") as bus:
        bus.execute("open_account", {"id": 1, "name": "a"}, idempotency_key="k")
        assert [record.status for record in bus.journal.read()] == [None, "succeeded"]
        assert bus.execute("open_account", {"id": 1, "name": "a"}, idempotency_key="k").repeated
    engine.dispose()
    assert query(postgres_url, "SELECT count(*) FROM audit.journal") == [(2,)]


def test_two_journals_over_one_pool_do_not_mix(postgres_url: URL) -> None:
    engine = create_engine(postgres_url, pool_size=1, max_overflow=0)
    Base.metadata.create_all(engine)
    buses = [Bus(make_application(), engine, schema=schema) for schema in ("one", "two")]
    for number, bus in enumerate(buses * 2):
        if number < 2:
            bus.journal.create()
        bus.execute("open_account", {"id": number, "name": f"{number}"})
    assert [len(list(bus.journal.read())) for bus in buses] == [4, 4]
    engine.dispose()


@pytest.mark.parametrize("ours_first", [True, False])
def test_an_applications_own_history_lives_beside_ours(url: URL, tmp_path: Path, ours_first: bool) -> None:
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(tmp_path / "own"))
    config.set_main_option("path_separator", "os")
    (tmp_path / "own" / "versions").mkdir(parents=True)
    (tmp_path / "own" / "env.py").write_text(
        "from alembic import context\n"
        "context.configure(connection=context.config.attributes['connection'])\n"
        "with context.begin_transaction():\n    context.run_migrations()\n"
    )
    (tmp_path / "own" / "versions" / "a1.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\nrevision = 'a1'\ndown_revision = None\n"
        "def upgrade(): op.create_table('own', sa.Column('id', sa.Integer, primary_key=True))\n"
    )

    def own() -> None:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    steps = [lambda: database.upgrade(engine), own]
    for step in steps if ours_first else reversed(steps):
        step()
    tables = set(inspect(engine).get_table_names())
    assert {"own", "alembic_version", "journal", VERSION_TABLE} <= tables
    assert database.current(engine) == LATEST
    engine.dispose()
