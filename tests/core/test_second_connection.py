"""A handler has one connection to its database: every other way into it is refused by name, and writes nothing."""

from __future__ import annotations

import contextvars
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import (
    Engine,
    NullPool,
    Pool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from actionbus import ActionCall, Application, Arg, Bus, ConfigurationError, Middleware, Misuse, outside
from actionbus.adapters.testing.guarding import Guarding
from actionbus.replay import LeavesSandbox
from tests.conftest import BusFactory, query
from tests.core.queues import Broker
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, Base, make_application

INSERT = text("INSERT INTO accounts (id, name, balance) VALUES (7, 'seven', 0)")


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], None]:
    """What `call_back` does."""

    def set_to(function: Callable[[Any], Any]) -> None:
        monkeypatch.setattr(CallBack, "function", function)

    return set_to


@pytest.fixture
def engines() -> Iterator[Callable[..., Engine]]:
    """Makes engines of the application's own."""
    made: list[Engine] = []

    def make(url: URL | str, **options: Any) -> Engine:
        made.append(create_engine(url, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


def session_of(bind: Any, handler: Any) -> None:
    with Session(bind) as session:
        session.add(Account(id=7, name="seven"))
        session.commit()


def connection_of(bind: Any, handler: Any) -> None:
    with bind.connect() as connection:
        connection.execute(INSERT)
        connection.commit()


def transaction_of(bind: Any, handler: Any) -> None:
    with bind.begin() as connection:
        connection.execute(INSERT)


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
    session_of, connection_of, transaction_of, reading, driver_of, sessionmaker_of, scoped_session_of,
    under_the_session,
]  # fmt: skip


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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("whose", ["the bus's", "its own", "its own, warm", "its own, unpooled", "by another name"])
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
    ["a statement", "an ORM query", "an object, not even flushed", "a driver's SQL", "a commit",
     "a commit of the connection"],
)  # fmt: skip
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


def reading_one(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT 1")).scalar_one())


# Where it is refused: wherever an application's code runs inside an action.


class Asked:
    """Does what a test says, at the place that it says."""

    def __init__(self) -> None:
        self.place, self.do = "", lambda: None

    def at(self, place: str) -> None:
        if place == self.place:
            self.do()


class Inside(Middleware):
    """Around the handler."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def around_execution(self, call: ActionCall, session: Session, proceed: Callable[[], None]) -> None:
        self.asked.at("middleware")
        proceed()


PLACES = ["validate", "execute", "provider", "checkpoint", "middleware", "argument", "nested", "serializer"]


def application(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> Application:
    class Serializer:
        def dump(self, value: Any) -> Any:
            asked.at("serializer")
            return value

    class Checkpoint:
        def require(self, permission: str, arguments: Any) -> None:
            asked.at("checkpoint")

    def repo(session: Session) -> object:
        asked.at("provider")
        return object()

    def checkpoint(session: Session) -> Checkpoint:
        return Checkpoint()

    def run(handler: Any) -> None:
        asked.at("execute")
        if asked.place == "nested":
            asked.place = "execute"
            handler.runner.execute("call_back")

    monkeypatch.setattr(CallBack, "function", run)
    monkeypatch.setattr(CallBack, "requires", ("session", "runner", "mailer", "repo"))
    monkeypatch.setattr(CallBack, "permission", "accounts:write")
    monkeypatch.setattr(CallBack, "arguments", {"n": Arg(int, default=0, validator=lambda n: asked.at("argument"))})
    monkeypatch.setattr(CallBack, "validate", lambda handler: asked.at("validate"))
    made = make_application()
    made.dependencies |= {"repo": repo, "checkpoint": checkpoint, "serializer": lambda actor: Serializer()}
    made.middleware = (Inside(asked),)
    return made


@pytest.mark.parametrize("place", PLACES)
def test_it_is_refused_wherever_the_applications_code_runs(
    make_bus: BusFactory, url: URL, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    asked = Asked()
    bus = make_bus(application(asked, monkeypatch), queue=Broker())
    asked.do = lambda: transaction_of(bus.engine, None)
    asked.place = place
    with pytest.raises(Misuse, match="outside"):
        bus.execute("call_back", {"n": 1})
    assert query(url, "SELECT * FROM accounts") == []


@pytest.mark.parametrize("place", ["validate", "provider", "checkpoint"])
def test_it_is_refused_when_an_action_is_queued_or_a_permission_asked(
    make_bus: BusFactory, url: URL, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    asked = Asked()
    bus = make_bus(application(asked, monkeypatch), queue=Broker())
    asked.do = lambda: transaction_of(bus.engine, None)
    asked.place = place
    with pytest.raises(Misuse, match="outside"):
        bus.runner("ann").execute_async("call_back")
    if place == "checkpoint":
        with pytest.raises(Misuse, match="outside"):
            bus.runner("ann").require("accounts:write")
    assert query(url, "SELECT * FROM accounts") == []


def test_a_worker_refuses_it_too(make_bus: BusFactory, url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    bus = make_bus(application(asked, monkeypatch), queue=Broker())
    ticket = bus.runner("ann").execute_async("call_back")
    asked.do, asked.place = lambda: transaction_of(bus.engine, None), "execute"
    with pytest.raises(Misuse, match="outside"):
        bus.run_queued(ticket.action_id)
    assert query(url, "SELECT * FROM accounts") == []


READS: dict[str, Callable[[Bus], Any]] = {
    "read": lambda bus: list(bus.journal.read()),
    "last": lambda bus: bus.journal.last(),
    "tail": lambda bus: bus.journal.tail(1),
    "stats": lambda bus: bus.journal.stats(),
    "identity": lambda bus: bus.journal.identity(),
}


@pytest.mark.parametrize("what", READS)
def test_a_handler_reads_no_journal(bus: Bus, function: Any, what: str) -> None:
    """It would take a second connection, and a replay would have none."""
    function(lambda handler: READS[what](bus))
    with pytest.raises(Misuse, match="outside"):
        bus.execute("call_back")


# What is declared `outside` may.


class Outer:
    """Reaches the database over connections of its own, in every way there is."""

    bind: Engine
    at_once = False

    def __init__(self) -> None:
        if self.at_once:
            reading_one(self.bind)

    def call(self) -> int:
        return reading_one(self.bind)

    @property
    def attribute(self) -> int:
        return reading_one(self.bind)

    def items(self) -> Iterator[int]:
        yield reading_one(self.bind)
        yield reading_one(self.bind)

    def __getitem__(self, key: str) -> int:
        return reading_one(self.bind)

    def __enter__(self) -> int:
        return reading_one(self.bind)

    def __exit__(self, *_: object) -> None:
        reading_one(self.bind)


def entered(handler: Any) -> list[int]:
    with handler.outer as found:
        return [found]


OUTSIDE: dict[str, Callable[[Any], Any]] = {
    "a call": lambda handler: [handler.outer.call()],
    "an attribute": lambda handler: [handler.outer.attribute],
    "items": lambda handler: list(handler.outer.items())[:1],
    "an item": lambda handler: [handler.outer["x"]],
    "a context": entered,
    "made": lambda handler: [1],
}


def outer_application(monkeypatch: pytest.MonkeyPatch) -> Application:
    monkeypatch.setattr(CallBack, "requires", ("session", "runner", "mailer", "outer"))
    made = make_application()
    made.dependencies["outer"] = outside(Outer)
    return made


@pytest.mark.parametrize("how", OUTSIDE)
def test_an_outside_dependency_has_connections_of_its_own(
    make_bus: BusFactory, function: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bus = make_bus(outer_application(monkeypatch))
    monkeypatch.setattr(Outer, "bind", bus.engine, raising=False)
    monkeypatch.setattr(Outer, "at_once", how == "made")
    function(OUTSIDE[how])
    assert bus.execute("call_back").result == [1]


@pytest.mark.parametrize("nature", ["outside", "re-run"])
def test_cleaning_up_is_outside_too_where_the_dependency_is(
    make_bus: BusFactory, url: URL, function: Any, monkeypatch: pytest.MonkeyPatch, nature: str
) -> None:
    cleaned: list[int] = []

    def outer(session: Session) -> Iterator[object]:
        yield object()
        cleaned.append(reading_one(bus.engine))

    made = outer_application(monkeypatch)
    made.dependencies["outer"] = outside(outer) if nature == "outside" else outer
    bus = make_bus(made)
    function(lambda handler: None)
    if nature == "outside":
        bus.execute("call_back")
        assert cleaned == [1]
        return
    with pytest.raises(Misuse, match="one connection"):
        bus.execute("call_back")
    assert cleaned == []


def test_in_memory_there_is_none_for_them_either(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Bus(outer_application(monkeypatch), "sqlite://") as bus:
        bus.journal.create()
        monkeypatch.setattr(Outer, "bind", bus.engine, raising=False)
        function(OUTSIDE["a call"])
        with pytest.raises(Misuse, match="one connection"):
            bus.execute("call_back")


def test_an_outside_call_is_no_way_around_for_what_it_calls_back(
    make_bus: BusFactory, url: URL, function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An action that runs inside one is a handler's again."""
    bus = make_bus(outer_application(monkeypatch))
    monkeypatch.setattr(Outer, "call", lambda outer, do: do(), raising=False)
    depth: list[int] = []

    def run(handler: Any) -> None:
        if depth:
            transaction_of(bus.engine, handler)
        depth.append(1)
        handler.outer.call(lambda: handler.runner.execute("call_back"))

    function(run)
    with pytest.raises(Misuse, match="outside"):
        bus.execute("call_back")
    assert query(url, "SELECT * FROM accounts") == []


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


# Threads.


def test_a_thread_that_gets_the_handlers_context_is_inside(bus: Bus, url: URL, function: Any) -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            transaction_of(bus.engine, None)
        except BaseException as error:
            raised.append(error)

    def run(handler: Any) -> None:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        thread.join()

    function(run)
    bus.execute("call_back")
    assert [type(each) for each in raised] == [Misuse]
    assert query(url, "SELECT * FROM accounts") == []


def test_a_context_that_outlives_the_action_is_free_again(bus: Bus, url: URL, function: Any) -> None:
    kept: list[contextvars.Context] = []
    function(lambda handler: kept.append(contextvars.copy_context()))
    bus.execute("call_back")
    kept[0].run(transaction_of, bus.engine, None)
    kept[0].run(bus.execute, "open_account", {"id": 8, "name": "eight"})
    assert query(url, "SELECT id FROM accounts ORDER BY id") == [(7,), (8,)]


def test_other_threads_go_on_as_they_like(bus: Bus, url: URL, function: Any) -> None:
    inside, done = threading.Event(), threading.Event()

    def run(handler: Any) -> None:
        inside.set()
        assert done.wait(60)

    function(run)
    acting = threading.Thread(target=bus.execute, args=("call_back",))
    acting.start()
    assert inside.wait(60)
    try:
        assert reading_one(bus.engine) == 1
    finally:
        done.set()
        acting.join()


@pytest.mark.parametrize("pool", [StaticPool, SingletonThreadPool])
def test_a_pool_that_hands_out_what_an_action_holds_is_refused_on_postgresql(engines: Any, pool: type[Pool]) -> None:
    with pytest.raises(ConfigurationError, match=f"{pool.__name__} hands out"):
        Bus(make_application(), engines("postgresql+psycopg2://nobody@nowhere/nothing", poolclass=pool))
