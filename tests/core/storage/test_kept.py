"""An action's connection is kept for the next one past the pool, and nobody misses it there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ResourceClosedError
from sqlalchemy.pool import QueuePool

from actionbus import Bus
from tests.conftest import prepared
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application
from tests.waiting import PATIENCE_S, eventually

THREADS = 20
BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
)


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    prepared(url)
    with Bus(make_application(), url) as bus:
        yield bus


@pytest.fixture
def pool_of_one(url: URL) -> Iterator[Bus]:
    """A bus for which the only connection of a pool is kept, which nobody need wait for."""
    prepared(url)
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=PATIENCE_S)
    with Bus(make_application(), engine) as bus:
        bus.backend.keep_connections()
        yield bus
    engine.dispose()


def run(bus: Bus, function: Callable[[Any], Any] = lambda handler: None) -> None:
    """Run an action whose handler does this."""
    CallBack.function = function
    assert bus.execute("call_back", {}).status == "succeeded"


def driver_of(handler: Any) -> Any:
    return handler.session.connection().connection.dbapi_connection


def pool_of(bus: Bus) -> QueuePool:
    assert isinstance(bus.engine.pool, QueuePool)
    return bus.engine.pool


def test_the_next_action_has_it_and_the_pool_is_not_asked(bus: Bus) -> None:
    seen: list[int] = []
    run(bus, lambda handler: seen.append(id(handler.session.connection().info)))
    asked: list[Any] = []
    event.listen(bus.engine.pool, "checkout", lambda *each: asked.append(each))
    for _ in range(3):
        run(bus, lambda handler: seen.append(id(handler.session.connection().info)))
    assert len(set(seen)) == 1
    assert not asked


def test_whoever_asks_the_pool_gets_it(pool_of_one: Bus) -> None:
    for _ in range(3):
        run(pool_of_one)
        with pool_of_one.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        assert pool_of_one.journal.last() is not None


def test_whoever_waits_for_the_pool_gets_it_when_the_action_ends(pool_of_one: Bus) -> None:
    found: list[int] = []
    asking = threading.Event()
    connect = pool_of_one.engine.pool.connect

    def tells() -> Any:
        asking.set()
        return connect()

    def ask() -> None:
        pool_of_one.engine.pool.connect = tells  # type: ignore[method-assign]
        with pool_of_one.engine.connect() as connection:
            found.append(connection.execute(text("SELECT 1")).scalar_one())

    def work(handler: Any) -> None:
        waiting.start()
        assert asking.wait(PATIENCE_S)

    waiting = threading.Thread(target=ask)
    run(pool_of_one, work)
    waiting.join(PATIENCE_S)
    assert found == [1]


def test_more_threads_than_connections_wait_for_nobody(bus: Bus) -> None:
    CallBack.function = lambda handler: handler.session.execute(text("SELECT 1")).scalar_one()

    def work(_: int) -> None:
        assert bus.execute("call_back", {}).status == "succeeded"
        with bus.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(3 * THREADS)))
    assert pool_of(bus).checkedout() <= pool_of(bus).size()
    run(bus)


def test_what_a_handler_spoilt_is_not_kept(bus: Bus) -> None:
    seen: list[Any] = []

    def spoil(handler: Any) -> None:
        seen.append(driver_of(handler))
        is_sqlite = bus.engine.dialect.name == "sqlite"
        handler.session.execute(text("PRAGMA cache_size = 7" if is_sqlite else "PREPARE theirs AS SELECT 1"))

    run(bus, spoil)
    run(bus, lambda handler: seen.append(driver_of(handler)))
    assert seen[0] is not seen[1]


def test_what_a_handler_closed_is_not_kept(bus: Bus) -> None:
    run(bus)
    CallBack.function = lambda handler: driver_of(handler).close()
    with pytest.raises(Exception):  # noqa: B017, PT011 - what it is called differs between drivers
        bus.execute("call_back", {})
    run(bus)


def test_a_handlers_connection_is_closed_with_its_action(bus: Bus) -> None:
    stale: list[Connection] = []
    run(bus, lambda handler: stale.append(handler.session.connection()))
    run(bus)
    with pytest.raises(ResourceClosedError):
        stale[0].execute(text("SELECT 1"))


def test_what_a_handler_sets_on_its_connection_is_gone_with_it(bus: Bus) -> None:
    options: list[Any] = []

    def change(handler: Any) -> None:
        options.append(dict(handler.session.connection().get_execution_options()))
        handler.session.connection().execution_options(schema_translate_map={"theirs": "ours"}, stream_results=True)

    run(bus, change)
    run(bus, change)
    assert options[0] == options[1]


def test_a_disposed_engine_keeps_none(postgres_url: URL) -> None:
    prepared(postgres_url)
    with Bus(make_application(), postgres_url) as bus:
        run(bus)
        other = create_engine(postgres_url)
        bus.engine.dispose()
        with other.connect() as connection:
            eventually(lambda: connection.exec_driver_sql(BACKENDS).scalar_one() == 1, "the kept one is closed")
        other.dispose()
        run(bus)


def test_a_connection_that_the_server_ended_is_replaced(postgres_url: URL) -> None:
    prepared(postgres_url)
    with Bus(make_application(), postgres_url) as bus:
        run(bus)
        with bus.engine.connect() as connection:
            ending = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database()"
            connection.execute(text(f"{ending} AND pid <> pg_backend_pid()"))
        run(bus)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_leaves_it_to_its_parent(postgres_url: URL) -> None:
    prepared(postgres_url)
    pids: list[int] = []
    with Bus(make_application(), postgres_url) as bus:
        run(bus, lambda handler: pids.append(driver_of(handler).info.backend_pid))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(bus, lambda handler: pids.append(driver_of(handler).info.backend_pid))
                code = 0 if pids[0] != pids[1] else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        run(bus, lambda handler: pids.append(driver_of(handler).info.backend_pid))
        assert pids[0] == pids[1]
