"""An application's own Alembic history lives beside ours: it never drops a table of ours, by intent or by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, create_engine, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from actionbus import Bus, InvalidArguments
from actionbus.adapters import database
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.alembic import include_name
from actionbus.core.storage import queue_ddl
from actionbus.core.storage.ddl import KEEPER
from actionbus.projections import Projector
from tests.adapters.migrations.own import Own, run_script
from tests.conftest import query
from tests.doc_blocks import run_blocks
from tests.projections.notes.app import Notes
from tests.projections.notes.app import make_application as notes
from tests.shop.app import Base, make_application

OURS = {
    "journal",
    "actionbus_totals",
    "actionbus_marks",
    "actionbus_unfinished",
    "actionbus_identity",
    "actionbus_incarnation",
    "actionbus_checkpoints",
    "actionbus_pauses",
    "actionbus_verifications",
    *queue_ddl.TABLES,
    "actionbus_version",
    "projection_indices",
    "projection_aliases",
    "projection_documents",
}


def full(engine: Engine, schema: str | None = None) -> None:
    """A journal with records, and the tables of the embedded search."""
    database.upgrade(engine, schema)
    with Bus(make_application(), engine, schema=schema) as bus, pytest.raises(InvalidArguments):
        bus.execute("open_account", {"id": 1})
    with Bus(notes(Notes), engine, schema=schema) as bus:
        Projector(bus, EmbeddedStore(engine, schema)).catch_up()


def tables(engine: Engine, schema: str | None = None) -> set[str]:
    return set(inspect(engine).get_table_names(schema))


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("hook", ["ours", "composed"])
@pytest.mark.parametrize("schema", [None, "audit"])
def test_autogenerate_leaves_our_tables_alone(
    request: pytest.FixtureRequest, url: URL, tmp_path: Path, ours_first: bool, hook: str, schema: str | None
) -> None:
    if schema and url.get_backend_name() == "sqlite":
        schema = None  # SQLite has none: the default once more
    engine = create_engine(url)
    if ours_first:
        full(engine, schema)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE abandoned (id INTEGER PRIMARY KEY)"))
        connection.execute(text("CREATE TABLE left_alone (id INTEGER PRIMARY KEY)"))
    own = Own(engine, tmp_path / "own", hook, Base.metadata, bool(schema))
    first = own.generate("a1")
    assert "create_table('accounts'" in first
    assert "drop_table('abandoned'" in first, "its own tables are still noticed"
    assert ("left_alone" in first) == (hook == "ours")
    own.do(command.upgrade, "head")
    if not ours_first:
        full(engine, schema)
    assert "op." not in own.generate("a2"), "the second is empty"
    own.do(command.upgrade, "head")
    own.do(command.check)
    with Bus(make_application(), engine, schema=schema) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        own.do(command.downgrade, "base")
        assert tables(engine, schema) >= OURS
        assert [record.status for record in bus.journal.read(kind="outcome")] == ["rejected", "succeeded"]
    assert database.current(engine, schema) == database.head()
    engine.dispose()


def test_a_journal_of_the_applications_own_in_another_schema_is_compared(postgres_url: URL, tmp_path: Path) -> None:
    engine = create_engine(postgres_url)
    full(engine, "audit")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE journal (id INTEGER PRIMARY KEY)"))
    made = Own(engine, tmp_path / "own", "ours", MetaData(), True).generate("a1")
    assert made.count("op.drop_table") == 1
    assert "drop_table('journal')" in made
    engine.dispose()


def test_a_script_without_an_env_is_answered_too(url: URL) -> None:
    engine = create_engine(url)
    full(engine)
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        found = MigrationContext.configure(connection, opts={"include_name": include_name})
        assert compare_metadata(found, Base.metadata) == []
    engine.dispose()


def test_without_the_hook_postgresql_refuses_by_name_and_nothing_is_lost(postgres_url: URL, tmp_path: Path) -> None:
    engine = create_engine(postgres_url)
    full(engine)
    before = query(postgres_url, "SELECT * FROM journal")
    own = Own(engine, tmp_path / "own", "none", Base.metadata, False)
    assert "drop_table('journal')" in own.generate("a1"), "what is guarded against"
    with pytest.raises(DBAPIError, match=f"{KEEPER} depends on"):
        own.do(command.upgrade, "head")
    assert tables(engine) >= OURS
    assert not {"accounts"} & tables(engine), "all of the migration is rolled back"
    assert query(postgres_url, "SELECT * FROM journal") == before
    engine.dispose()


@pytest.mark.parametrize("schema", [None, "audit"])
def test_postgresql_drops_no_table_of_ours_without_cascade(postgres_url: URL, schema: str | None) -> None:
    engine = create_engine(postgres_url)
    database.upgrade(engine, schema)
    prefix = f"{schema}." if schema else ""
    for table in sorted(OURS & tables(engine, schema)):
        with pytest.raises(DBAPIError, match=f"{KEEPER} depends on"), engine.begin() as connection:
            connection.execute(text(f"DROP TABLE {prefix}{table}"))
    reflected = MetaData()
    reflected.reflect(engine, schema=schema)
    with pytest.raises(DBAPIError, match=f"{KEEPER} depends on"):
        reflected.drop_all(engine)
    assert "include_name" in query(postgres_url, f"SELECT pg_get_viewdef('{prefix}{KEEPER}'::regclass)")[0][0]
    with engine.begin() as connection:  # on purpose it is one statement more
        connection.execute(text(f"DROP VIEW {prefix}{KEEPER}"))
        connection.execute(text(f"DROP TABLE {prefix}journal"))
    engine.dispose()


@pytest.mark.parametrize("made_by", ["upgrade", "create", "printed"])
def test_our_own_tables_are_removed_by_no_downgrade(url: URL, made_by: str) -> None:
    engine = create_engine(url)
    if made_by == "upgrade":
        database.upgrade(engine)
    elif made_by == "create":
        Bus(make_application(), engine).journal.create()
    else:
        run_script(engine, database.upgrade_sql(engine.dialect.name))
    before = tables(engine)
    config = database._config(None)
    with pytest.raises(RuntimeError, match="append-only"), engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert tables(engine) == before
    database.upgrade(engine)
    assert database.current(engine) == database.head()
    engine.dispose()


def test_the_guide_to_migrations_runs_as_it_is_written(url: URL, tmp_path: Path) -> None:
    where = url.render_as_string(hide_password=False)
    assert run_blocks("docs/migrations.md", tmp_path, ACTIONBUS_DATABASE_URL=where) >= 3
    engine = create_engine(url)
    assert tables(engine) >= {"journal", "accounts", "alembic_version"}
    [(count,)] = query(url, "SELECT count(*) FROM journal WHERE kind <> 'bypass'")
    assert count == 2
    engine.dispose()
