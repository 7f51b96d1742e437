"""Fixtures for all tests: a bus on each database, with the small shop application bound to it."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from actionbus import Application, Bus
from actionbus.core.history.created import LEFT_TO_CALLER
from tests.copies import copied
from tests.line_coverage import TOLD
from tests.rewriting import compile_all
from tests.servers import Redis, Server, in_memory
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Base, make_application
from tests.turns import those_in_turn

pytest_plugins = ["pytester", "tests.cli_fixtures", "tests.elasticsearch_fixtures", "tests.packages"]

# A shell that runs the tests in the background makes them ignore SIGINT, nohup SIGHUP, which the commands under test would
# inherit.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

T = TypeVar("T")
TORTURE = os.environ.get("ACTIONBUS_TORTURE") == "1"
if (memory := in_memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))  # where pytest makes the folders of tests
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of commands are started, each of which would compile us anew
sys.dont_write_bytecode = False
gc.set_threshold(200_000, 20, 100)  # what is imported and collected stays: looking through it is a third of that time


NEEDS_SERVER = {"server", "redis", "elasticsearch_url", "elasticsearch_server"}
"""Fixtures that start one, whoever asks for them."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Take turns of the databases; mark what needs a server, by fixtures, or what it is on; begin what takes long.

    `make test-fast` leaves out what needs a server.
    """
    if not TORTURE and "not server" not in config.option.markexpr:
        items[:] = those_in_turn(items)
    for item in items:
        _, _, on = item.name.partition("[")
        if NEEDS_SERVER & set(getattr(item, "fixturenames", ())) or "postgres" in on or "elasticsearch" in on:
            item.add_marker("server")
    yield
    begin_early(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def begin_early(items: list[pytest.Item], workers: int) -> None:
    """Put what takes long at the beginning of each worker's part, so that no run waits for it alone at its end."""
    early = [item for item in items if item.get_closest_marker("early")]
    others = iter([item for item in items if not item.get_closest_marker("early")])
    parts: list[pytest.Item] = []
    for worker in range(workers):
        parts += early[worker::workers]
        parts += islice(others, max(0, len(items) * (worker + 1) // workers - len(parts)))
    items[:] = [*parts, *others]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile once what all workers will import."""
    if session.config.getoption("numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        compile_all(session.config.rootpath, ours=TOLD not in os.environ)


def pytest_collection_finish() -> None:
    """What was imported stays: the collector need not look through it again and again, nor at each step of a test."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


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
def empty_postgres_url(server: Server) -> Iterator[URL]:
    """Another database on PostgreSQL, with nothing in it."""
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
        if not made and "schema" not in options:
            copied(url, "shop", create_shop)
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
    what, create = ("recorded shop", create_recorded_shop) if recorded else ("shop", create_shop)
    if not copied(url, what, create):
        create(url)


def create_shop(url: URL) -> None:
    """Journal and shop, whose rows are not recorded."""
    with _tables_of_shop(url) as bus:
        bus.journal.create()
        create_tables(bus.engine)


def create_recorded_shop(url: URL) -> None:
    """Journal and shop, with what records its rows."""
    with _tables_of_shop(url) as bus:
        bus.create()


def _tables_of_shop(url: URL) -> Bus:
    return Bus(make_application(actions=[]), url)  # which a test may have changed, the first that asks for tables


def create_tables(engine: Engine) -> None:
    """Create the shop's tables, whose rows are not recorded: that takes as long as many a test, which begins it."""
    Base.metadata.create_all(engine.execution_options(**{LEFT_TO_CALLER: True}))


def elsewhere(do: Callable[[], T]) -> T:
    """Do it in a thread of its own, as another process would: inside a handler it would be refused."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(do).result()


def query(url: URL, sql: str) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own, which is closed then; its rows."""
    with _engine_of(url).begin() as connection:
        result = connection.exec_driver_sql(sql)
        return [tuple(row) for row in result] if result.returns_rows else []


@lru_cache(maxsize=8)
def _engine_of(url: URL) -> Engine:
    """It keeps no connection. A new one asks the database what it is, which takes longer than most statements."""
    return create_engine(url, poolclass=NullPool)
