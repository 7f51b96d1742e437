"""Migrations: what `db upgrade` makes is what the bus needs, beside an application's own Alembic history."""

from __future__ import annotations

from pathlib import Path

import psycopg2
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters import database
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.core.storage.ddl import LATEST, VERSION_TABLE
from actionbus.core.storage.table import COLUMNS
from actionbus.projections.ledger import Ledger
from actionbus.projections.store import IndexInfo, StoredDocument, Write
from actionbus.replay.archives.transfer import export, import_into
from actionbus.testing import HeldBroker
from tests.adapters.migrations.own import run_script
from tests.conftest import create_tables, query
from tests.helpers import Run
from tests.shop.app import Base, make_application


def test_upgrade_makes_a_journal_that_the_bus_can_use(url: URL) -> None:
    engine = create_engine(url)
    assert database.current(engine) is None
    database.upgrade(engine)
    database.upgrade(engine)
    assert database.current(engine) == database.head() == LATEST
    create_tables(engine)
    with Bus(make_application(), engine) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        assert len(list(bus.journal.read())) == 2
    engine.dispose()


def test_tables_of_a_version_that_is_not_known_are_left_alone_and_told_of(url: URL, run: Run) -> None:
    """As after going back to an earlier version, of which no command may say that an upgrade would help."""
    engine = create_engine(url)
    database.upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = 'later'")
    with pytest.raises(database.MadeByAnotherVersion, match=r"revision 'later', which this actionbus does not know"):
        database.upgrade(engine)
    assert database.current(engine) == "later"
    assert "another version made them" in run("db", "upgrade", code=1).stderr
    told = run("db", "current", code=1).stdout
    assert "another version made them" in told
    assert "db upgrade" not in told
    engine.dispose()


def test_create_and_upgrade_make_the_same(url: URL) -> None:
    with Bus(make_application(), url) as bus:
        bus.journal.create()
        assert database.current(bus.engine) == database.head()
        database.upgrade(bus.engine)
        columns = [column["name"] for column in inspect(bus.engine).get_columns("journal")]
        assert columns == [*COLUMNS, "images_after", "images_upto"]


def test_the_printed_sql_makes_the_same(url: URL) -> None:
    engine = create_engine(url)
    printed = database.upgrade_sql(engine.dialect.name)
    assert VERSION_TABLE in printed
    run_script(engine, printed)
    assert database.current(engine) == database.head()
    engine.dispose()


def test_a_schema_of_its_own(postgres_url: URL) -> None:
    engine = create_engine(postgres_url)
    database.upgrade(engine, "audit")
    create_tables(engine)
    assert database.current(engine, "audit") == LATEST
    with Bus(make_application(), engine, schema="audit") as bus:
        bus.execute("open_account", {"id": 1, "name": "a"}, idempotency_key="k")
        assert [record.status for record in bus.journal.read()] == [None, "succeeded"]
        assert bus.execute("open_account", {"id": 1, "name": "a"}, idempotency_key="k").repeated
    engine.dispose()
    assert query(postgres_url, "SELECT count(*) FROM audit.journal") == [(2,)]


@pytest.mark.parametrize("made_by", ["create", "upgrade", "printed"])
@pytest.mark.parametrize("schema", ["o'brien", 'we"ird 100%', "%(x)s :y ?{p}{schema}\\z"])
def test_whatever_is_in_a_schemas_name_it_is_one_name(
    postgres_url: URL, tmp_path: Path, schema: str, made_by: str
) -> None:
    queue = HeldBroker()
    with Bus(make_application(), postgres_url, schema=schema, broker=queue) as bus:
        Base.metadata.create_all(bus.engine)
        if made_by == "create":
            bus.journal.create()
        elif made_by == "upgrade":
            database.upgrade(bus.engine, schema)
            database.upgrade(bus.engine, schema)
        else:
            execute(postgres_url, database.upgrade_sql("postgresql", schema))
        assert database.current(bus.engine, schema) == LATEST
        for _ in range(2):
            bus.execute("open_account", {"id": 1, "name": "a"}, idempotency_key="k")
        with pytest.raises(LookupError):
            bus.execute("withdraw", {"id": 9, "amount": 1})
        bus.runner().execute_async("deposit", {"id": 1})
        assert [outcome.status for outcome in queue.run(bus)] == ["succeeded"]
        assert bus.recover().interrupted == []
        ledger = Ledger(bus.backend)
        assert ledger.add("index", "accounts", 1, 1, first=True)
        assert [row.index_name for row in ledger.checkpoints()] == ["index"]
        store = EmbeddedStore(bus.engine, schema)
        store.create_index(IndexInfo("index", "accounts", 1, "j"), {}, {}, loading=False)
        store.write_many("index", [Write("1", 1, b"{}")])
        assert store.get_many("index", ["1"]) == {"1": StoredDocument(1, {})}
        store.delete_index("index")
        assert len(list(bus.journal.read())) == export(bus.journal, tmp_path / "journal.gz", history=bus.history) == 6
    with Bus(make_application(), postgres_url, schema=schema + "2") as second:
        second.journal.create()
        assert import_into(second, tmp_path / "journal.gz") == 6
        assert second.execute("deposit", {"id": 1}).status == "succeeded"


def execute(url: URL, script: str) -> None:
    """As psql would: all of it, as it stands."""
    connection = psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    connection.cursor().execute(script)
    connection.commit()
    connection.close()


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
