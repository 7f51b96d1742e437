"""Tables that are created in a database with a journal are recorded from then on, by whatever way they are created."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, Table, create_engine, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import StaticPool

from actionbus import Application, Bus
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application


def declared(models: MetaData, **options: object) -> Application:
    return Application("made", actions=["tests.core.no_actions"], models=models, **options)  # type: ignore[arg-type]


@pytest.fixture
def models() -> MetaData:
    models = MetaData()
    Table(
        "items",
        models,
        Column("id", Integer, primary_key=True),
        Column("name", String(9)),
        Column("secret", String(9), info={"sensitive": True}),
    )
    Table("parts", models, Column("id", Integer, primary_key=True), Column("item", ForeignKey("items.id")))
    Table("logs", models, Column("id", Integer, primary_key=True))
    return models


@pytest.fixture
def bus(url: URL, models: MetaData) -> Iterator[Bus]:
    """Upon a database with a journal and nothing else."""
    with Bus(declared(models, unrecorded=["logs"]), url) as bus:
        bus.journal.create()
        yield bus


def whole(bus: Bus) -> set[str]:
    return {each.table_name.rpartition(".")[2] for each in bus.history.status() if each.is_whole}


def test_create_all_records_what_it_makes(bus: Bus, models: MetaData) -> None:
    engine = create_engine(bus.engine.url)
    models.create_all(engine, tables=[models.tables["items"]])
    assert whole(bus) == {"items"}
    models.create_all(engine)
    models.create_all(engine)
    assert whole(bus) == {"items", "parts"}
    with engine.begin() as connection:
        connection.execute(models.tables["items"].insert().values(id=1, name="a", secret="hush"))
    (rows,) = [rows for name, rows in bus.history.state().tables.items() if name.endswith("items")]
    assert rows == [{"id": 1, "name": "a"}]
    models.drop_all(engine)
    assert inspect(engine).get_table_names() == [n for n in inspect(engine).get_table_names() if n not in models.tables]
    models.create_all(engine)
    assert whole(bus) == {"items", "parts"}
    assert bus.history.state("items").tables.popitem()[1] == [], "those that were dropped are gone"
    engine.dispose()


def test_one_table_and_a_connection_in_a_transaction(bus: Bus, models: MetaData) -> None:
    models.tables["items"].create(bus.engine)
    assert whole(bus) == {"items"}
    with bus.engine.connect() as connection:
        with connection.begin() as transaction:
            models.create_all(connection)
            connection.execute(text("INSERT INTO parts (id) VALUES (1)"))
            transaction.rollback()
        models.create_all(connection)
        connection.execute(text("INSERT INTO parts (id) VALUES (2)"))
        connection.commit()
    assert whole(bus) == {"items", "parts"}
    assert bus.history.rows("parts", 2).changes[0].operation == "insert"


def test_a_connection_that_commits_each_statement(bus: Bus, models: MetaData) -> None:
    with bus.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        models.create_all(connection)
    assert whole(bus) == {"items", "parts"}


def test_a_table_that_is_there_is_left_alone(bus: Bus, models: MetaData) -> None:
    with bus.engine.begin() as connection:
        connection.execute(text("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, secret TEXT)"))
    models.create_all(bus.engine)
    assert whole(bus) == {"parts"}
    bus.create()
    assert whole(bus) == {"items", "parts"}


def test_without_a_journal_nothing_happens(url: URL, models: MetaData, caplog: pytest.LogCaptureFixture) -> None:
    declared(models)
    engine = create_engine(url)
    models.create_all(engine)
    assert "actionbus_shapes" not in inspect(engine).get_table_names()
    assert caplog.records == []
    models.drop_all(engine)
    engine.dispose()


def test_models_that_no_application_has_are_nobodys(bus: Bus) -> None:
    others = MetaData()
    Table("elsewhere", others, Column("id", Integer, primary_key=True))
    others.create_all(bus.engine)
    assert whole(bus) == set()


def test_in_memory(models: MetaData) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with Bus(declared(models), engine) as bus:
        bus.journal.create()
        models.create_all(engine)
        assert whole(bus) == {"items", "parts", "logs"}


def test_a_journal_in_a_schema_of_its_own_and_tables_in_several(postgres_url: URL) -> None:
    models = MetaData()
    Table("items", models, Column("id", Integer, primary_key=True))
    Table("items", models, Column("id", Integer, primary_key=True), schema="sales")
    Table("parts", models, Column("id", Integer, primary_key=True), schema="tenant")
    with Bus(declared(models), postgres_url, schema="audit") as bus:
        bus.journal.create()
        with bus.engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA sales; CREATE SCHEMA moved"))
        models.create_all(bus.engine.execution_options(schema_translate_map={"tenant": "moved"}))
        found = {each.table_name for each in bus.history.status() if each.is_whole}
        assert found == {"public.items", "sales.items", "moved.parts"}


def test_what_cannot_be_recorded_is_created_all_the_same_and_named(
    sqlite_url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    models = MetaData()
    Table("wide", models, Column("id", Integer, primary_key=True), *(Column(f"c{n}", Integer) for n in range(1100)))
    with Bus(declared(models), sqlite_url) as bus:
        bus.journal.create()
        models.create_all(bus.engine)
        assert "wide" in inspect(bus.engine).get_table_names()
    (told,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert "wide: created, and not recorded: " in told
    assert "unrecorded=" in told


def test_a_role_that_may_not_install_creates_its_tables(
    postgres_url: URL, models: MetaData, caplog: pytest.LogCaptureFixture
) -> None:
    with Bus(declared(models), postgres_url) as bus:
        bus.journal.create()
        with bus.engine.begin() as connection:
            connection.execute(text("CREATE ROLE maker LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO maker"))
        engine = create_engine(postgres_url.set(username="maker"))
        try:
            models.create_all(engine)
            assert {"items", "parts", "logs"} <= set(inspect(engine).get_table_names())
            assert "permission denied" in caplog.text
            assert whole(bus) == set()
            bus.create()
            assert whole(bus) == {"items", "parts", "logs"}
        finally:
            engine.dispose()
            with bus.engine.begin() as connection:
                connection.execute(text("DROP OWNED BY maker; DROP ROLE maker"))


def functions(engine: Engine) -> int:
    with engine.connect() as connection:
        found: int = connection.execute(
            text("SELECT count(*) FROM pg_proc WHERE proname LIKE 'actionbus\\_image\\_%'")
        ).scalar_one()
    return found


def test_dropped_tables_leave_no_functions_behind_once_they_are_made_again(postgres_url: URL, models: MetaData) -> None:
    with Bus(declared(models), postgres_url) as bus:
        bus.create()
        before = functions(bus.engine)
        for _ in range(2):
            models.drop_all(bus.engine)
            models.create_all(bus.engine)
        assert functions(bus.engine) == before


def test_by_another_driver_tables_are_created_and_the_bus_warns(
    postgres_url: URL, models: MetaData, caplog: pytest.LogCaptureFixture
) -> None:
    application = declared(models)
    with Bus(application, postgres_url) as bus:
        bus.journal.create()
        engine = create_engine(postgres_url.set(drivername="postgresql+psycopg"))
        models.create_all(engine)
        engine.dispose()
        assert caplog.records == []
        assert [each.problems != () for each in bus.history.status()] == [True] * 3
        bus.create()
        assert whole(bus) == {"items", "parts", "logs"}


def test_tables_that_an_action_makes_are_no_part_of_its_transaction_that_is_ours(bus: Bus, models: MetaData) -> None:
    def make(handler: CallBack) -> None:
        models.create_all(handler.session.connection(), tables=[models.tables["items"]])

    CallBack.function = make
    with Bus(make_application(), bus.engine.url) as shop:
        assert shop.execute("call_back").status == "succeeded"
    assert whole(bus) == set()
    bus.create()
    assert whole(bus) == {"items", "parts"}
