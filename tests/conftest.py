"""Fixtures for all tests: a bus on each database, with the small shop application bound to it."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url

from actionbus import Application, Bus
from actionbus.core.history.created import LEFT_TO_CALLER
from tests.servers import Redis, Server
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Base, make_application

pytest_plugins = ["pytester", "tests.cli_fixtures", "tests.elasticsearch_fixtures"]

# A shell that runs the tests in the background makes them ignore SIGINT, which the commands under test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

T = TypeVar("T")
TORTURE = os.environ.get("ACTIONBUS_TORTURE") == "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of commands are started, each of which would compile us anew


def pytest_collection_finish() -> None:
    """What was imported stays: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """No test leaves its function in `call_back`."""
    function = CallBack.function
    yield
    CallBack.function = function


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A real PostgreSQL. There is no skipping: where it cannot be had, the tests fail."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A real Redis, empty."""
    server = Redis()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def postgres_url(server: Server) -> Iterator[URL]:
    """A new database on PostgreSQL."""
    url = server.database()
    yield url
    server.drop(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> URL:
    """A new SQLite file."""
    return make_url(f"sqlite:///{tmp_path / 'shop.db'}")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> URL:
    """A new database, on each of the two in turn."""
    found: URL = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return found


def in_turn(name: str, values: Iterable[Any]) -> pytest.MarkDecorator:
    """Each of `values` on one of the two databases, in turn; on both in `make torture`."""
    both = ("sqlite", "postgresql")
    pairs = [(each, value) for at, value in enumerate(values) for each in (both if TORTURE else (both[at % 2],))]
    return pytest.mark.parametrize(("url", name), pairs, indirect=["url"])


BusFactory = Callable[..., Bus]


@pytest.fixture
def make_bus(url: URL) -> Iterator[BusFactory]:
    """Makes buses on one database whose tables exist."""
    yield from _bus_factory(url)


@pytest.fixture
def make_postgres_bus(postgres_url: URL) -> Iterator[BusFactory]:
    """The same on PostgreSQL alone."""
    yield from _bus_factory(postgres_url)


@pytest.fixture
def make_sqlite_bus(sqlite_url: URL) -> Iterator[BusFactory]:
    """The same on SQLite alone."""
    yield from _bus_factory(sqlite_url)


def _bus_factory(url: URL) -> Iterator[BusFactory]:
    made: list[Bus] = []

    def make(application: Application | None = None, **options: Any) -> Bus:
        bus = Bus(application or make_application(), url, **options)
        if not bus.journal.exists():
            bus.journal.create()
            create_tables(bus.engine)
        made.append(bus)
        return bus

    yield make
    for bus in made:
        bus.close()


@pytest.fixture
def bus(make_bus: BusFactory) -> Bus:
    """The shop on a new database."""
    return make_bus()


def prepared(url: URL, *, recorded: bool = False) -> None:
    """Create journal and shop tables in an empty database; with what records their rows, if that is asked for."""
    with Bus(make_application(), url) as bus:
        if recorded:
            bus.create()
            return
        bus.journal.create()
        create_tables(bus.engine)


def create_tables(engine: Engine) -> None:
    """Create the shop's tables, whose rows are not recorded: that takes as long as many a test, which begins it."""
    Base.metadata.create_all(engine.execution_options(**{LEFT_TO_CALLER: True}))


def elsewhere(do: Callable[[], T]) -> T:
    """Do it in a thread of its own, as another process would: inside a handler it would be refused."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(do).result()


def query(url: URL, sql: str) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own; its rows."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.exec_driver_sql(sql)
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()
