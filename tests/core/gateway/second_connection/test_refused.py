"""A handler has one connection to its database: every other way into it is refused by name, and writes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Engine, NullPool, QueuePool, StaticPool, event, select, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from actionbus import Bus, Misuse
from actionbus.adapters.testing.guarding import Guarding
from actionbus.replay import LeavesSandbox
from tests.conftest import BusFactory, query
from tests.core.gateway.second_connection.ways import INSERT, reading_one, transaction_of
from tests.shop.app import Account, Base, make_application


def session_of(bind: Any, handler: Any) -> None:
    with Session(bind) as session:
        session.add(Account(id=7, name="seven"))
        session.commit()


def connection_of(bind: Any, handler: Any) -> None:
    with bind.connect() as connection:
        connection.execute(INSERT)
        connection.commit()


def reading(bind: Any, handler: Any) -> None:
    with bind.connect() as connection:
        connection.execute(text("SELECT count(*) FROM accounts"))


def driver_of(bind: Any, handler: Any) -> None:
    connection = bind.raw_connection()
    try:
        connection.cursor().execute(str(INSERT))
        connection.commit()
    finally:
        connection.close()


def sessionmaker_of(bind: Any, handler: Any) -> None:
    with sessionmaker(bind).begin() as session:
        session.add(Account(id=7, name="seven"))


def scoped_session_of(bind: Any, handler: Any) -> None:
    scoped = scoped_session(sessionmaker(bind))
    scoped.add(Account(id=7, name="seven"))
    scoped.remove()


def under_the_session(bind: Any, handler: Any) -> None:
    with handler.session.get_bind().engine.begin() as connection:
        connection.execute(INSERT)


WAYS = [
    session_of,
    connection_of,
    transaction_of,
    reading,
    driver_of,
    sessionmaker_of,
    scoped_session_of,
    under_the_session,
]


def other_name(url: URL, folder: Path) -> URL:
    """The same database by another name."""
    link = folder / "link"
    if url.get_backend_name() == "sqlite":
        link.symlink_to(Path(str(url.database)).parent)
        return url.set(database=str(link / Path(str(url.database)).name))
    if host := url.query.get("host"):  # the folder of a socket
        link.symlink_to(str(host))
        return url.update_query_dict({"host": str(link)})
    return url.set(host={"localhost": "127.0.0.1", "127.0.0.1": "localhost"}[str(url.host)])


def refused(bus: Bus, url: URL) -> None:
    """The action is refused by name, on record as failed, and nothing is written by it, then or later."""
    with pytest.raises(Misuse, match="session"):
        bus.execute("call_back")
    [outcome] = bus.journal.read(kind="outcome")
    assert outcome.status == "failed"
    assert outcome.error["type"].endswith("Misuse")
    assert query(url, "SELECT * FROM accounts") == []


@pytest.mark.parametrize(
    ("way", "whose"),
    list(product(WAYS, ["the bus's", "its own", "its own, warm", "its own, unpooled", "by another name"])),
)
def test_a_second_connection_is_refused_by_name(
    bus: Bus, url: URL, function: Any, engines: Any, tmp_path: Path, way: Any, whose: str
) -> None:
    match whose:
        case "the bus's":
            bind = bus.engine
        case "its own, unpooled":
            bind = engines(url, poolclass=NullPool)
        case "by another name":
            bind = engines(other_name(url, tmp_path))
        case _:
            bind = engines(url)
    if "warm" in whose:
        with bind.connect() as connection:
            connection.execute(text("SELECT 1"))
    function(lambda handler: way(bind, handler))
    refused(bus, url)


@pytest.mark.parametrize("how", ["a url", "an engine", "a session factory"])
def test_however_the_bus_was_given_its_database(
    make_bus: BusFactory, url: URL, function: Any, engines: Any, how: str
) -> None:
    make_bus()
    engine = engines(url, poolclass=QueuePool, pool_size=1, max_overflow=0)
    factory = sessionmaker(engine)
    with {
        "a url": lambda: Bus(make_application(), url),
        "an engine": lambda: Bus(make_application(), engine),
        "a session factory": lambda: Bus(make_application(), session_factory=factory),
    }[how]() as bus:
        bind = {"a session factory": engine}.get(how, bus.engine)
        function(
            lambda handler: factory().add(Account(id=7, name="seven")) if how[-7:] == "factory" else reading(bind, 0)
        )
        refused(bus, url)


def before_the_action(way: str, bind: Engine) -> Callable[[Any], Any]:
    """Things that were opened before, and are used inside."""
    session = Session(bind)
    session.execute(text("SELECT 1"))
    connection = session.connection()
    return {
        "a statement": lambda handler: connection.execute(INSERT),
        "an ORM query": lambda handler: session.scalars(select(Account)).all(),
        "an object, not even flushed": lambda handler: session.add(Account(id=7, name="seven")),
        "a driver's SQL": lambda handler: connection.exec_driver_sql(str(INSERT)),
        "a commit": lambda handler: session.commit(),
        "a commit of the connection": lambda handler: connection.commit(),
    }[way]


@pytest.mark.parametrize(
    "way",
    [
        "a statement",
        "an ORM query",
        "an object, not even flushed",
        "a driver's SQL",
        "a commit",
        "a commit of the connection",
    ],
)
@pytest.mark.parametrize("whose", ["the bus's", "its own", "by another name"])
def test_one_that_was_open_before_is_refused_too(
    make_bus: BusFactory, url: URL, function: Any, engines: Any, tmp_path: Path, way: str, whose: str
) -> None:
    bus = make_bus()
    engine = {"the bus's": lambda: bus.engine, "its own": lambda: engines(url)}.get(
        whose, lambda: engines(other_name(url, tmp_path))
    )()
    function(before_the_action(way, engine))
    refused(bus, url)


def test_an_engine_of_another_driver_is_refused(
    make_postgres_bus: BusFactory, postgres_url: URL, function: Any, engines: Any
) -> None:
    engine = engines(postgres_url.set(drivername="postgresql+psycopg"))
    function(lambda handler: transaction_of(engine, handler))
    refused(make_postgres_bus(), postgres_url)


def test_a_file_attached_to_another_database_is_refused(
    make_sqlite_bus: BusFactory, sqlite_url: URL, function: Any, engines: Any
) -> None:
    engine = engines("sqlite://")
    event.listen(
        engine, "connect", lambda dbapi, record: dbapi.execute("ATTACH ? AS shop", (str(sqlite_url.database),))
    )
    function(lambda handler: reading(engine, handler))
    refused(make_sqlite_bus(), sqlite_url)


@pytest.mark.parametrize("pool", ["the bus's", "StaticPool", "SingletonThreadPool"])
@pytest.mark.parametrize("way", WAYS)
def test_in_memory_the_one_connection_is_not_handed_out(function: Any, engines: Any, pool: str, way: Any) -> None:
    options = {"StaticPool": {"poolclass": StaticPool}, "SingletonThreadPool": {}}
    with Bus(make_application(), "sqlite://" if pool == "the bus's" else engines("sqlite://", **options[pool])) as bus:
        bus.journal.create()
        Base.metadata.create_all(bus.engine)

        def caught(handler: Any) -> None:
            handler.session.add(Account(id=1, name="one"))
            handler.session.flush()
            with pytest.raises(Misuse, match="session"):
                way(bus.engine, handler)
            raise RuntimeError("changed its mind")

        function(caught)
        with pytest.raises(RuntimeError, match="changed its mind"):
            bus.execute("call_back")
        with bus.engine.connect() as connection:
            assert connection.execute(select(Account.id)).all() == [], "rolled back, whatever was tried inside"


def test_a_refusal_that_is_caught_does_no_harm(bus: Bus, url: URL, function: Any) -> None:
    def caught(handler: Any) -> None:
        with pytest.raises(Misuse):
            session_of(bus.engine, handler)
        handler.session.add(Account(id=1, name="one"))

    function(caught)
    assert bus.execute("call_back").status == "succeeded"
    assert query(url, "SELECT id FROM accounts") == [(1,)]
    with Session(bus.engine) as session, session.begin():
        session.add(Account(id=2, name="two"))


def test_the_one_connection_of_a_pool_is_not_waited_for(
    url: URL, make_bus: BusFactory, function: Any, engines: Any
) -> None:
    make_bus()
    engine = engines(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0)
    with Bus(make_application(), engine) as bus:
        function(lambda handler: reading(engine, handler))
        refused(bus, url)


def test_a_second_session_on_the_actions_own_connection_is_the_action(bus: Bus, url: URL, function: Any) -> None:
    def same(handler: Any) -> None:
        with Session(handler.session.connection(), join_transaction_mode="create_savepoint") as second:
            second.add(Account(id=1, name="one"))
            second.flush()
            second.commit()

    function(same)
    bus.execute("call_back")
    assert query(url, "SELECT id FROM accounts") == [(1,)]


def test_other_databases_are_none_of_our_business(
    bus: Bus, function: Any, engines: Any, tmp_path: Path, server: Any
) -> None:
    there = server.database()
    others = [engines("sqlite://"), engines(f"sqlite:///{tmp_path / 'other.db'}"), engines(there)]
    function(lambda handler: [reading_one(each) for each in others for _ in range(2)])
    assert bus.execute("call_back").result == [1] * 6
    others[-1].dispose()
    server.drop(there)


def test_an_action_of_another_bus_is_refused_for_what_it_is(
    bus: Bus, function: Any, engines: Any, tmp_path: Path
) -> None:
    other = Bus(make_application(), engines(f"sqlite:///{tmp_path / 'other.db'}"))
    function(lambda handler: other.execute("draw"))
    with pytest.raises(Misuse, match="of another bus"):
        bus.execute("call_back")
    function(lambda handler: bus.execute("draw"))
    with pytest.raises(Misuse, match="inside its transaction"):
        bus.execute("call_back")


# What SQLAlchemy does not see, the testing kit does.


def test_a_drivers_own_connection_is_refused_by_the_testing_kit(
    make_bus: BusFactory, url: URL, monkeypatch: pytest.MonkeyPatch, function: Any
) -> None:
    def by_the_driver(handler: Any) -> None:
        if url.get_backend_name() == "sqlite":
            sqlite3.connect(str(url.database)).close()
        else:
            psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)).close()

    guarding = Guarding()
    bus = make_bus(middleware=[guarding])
    guarding.engine = bus.engine
    function(by_the_driver)
    with pytest.raises(LeavesSandbox, match="outside"):
        bus.execute("call_back")
