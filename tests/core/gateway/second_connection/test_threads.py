"""Threads: one that has the handler's context is inside of the action, others go on as they like."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

import pytest
from sqlalchemy import Pool, SingletonThreadPool, StaticPool
from sqlalchemy.engine import URL

from actionbus import Bus, ConfigurationError, Misuse
from tests.conftest import query
from tests.core.gateway.second_connection.ways import reading_one, transaction_of
from tests.shop.app import make_application


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
