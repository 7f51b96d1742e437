"""A journal is made once, however often and by however many it is asked for; without one, calls say what to do."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from actionbus import Bus, JournalUnavailable
from actionbus.adapters import database
from actionbus.core.storage.ddl import LATEST
from tests.conftest import query
from tests.core.queues import Broker
from tests.shop.app import Base, make_application


def test_a_script_that_creates_the_journal_starts_a_second_time(url: URL) -> None:
    for number in (1, 2):
        with Bus(make_application(), url) as bus:
            bus.journal.create()
            bus.journal.create()
            Base.metadata.create_all(bus.engine)
            bus.execute("open_account", {"id": number, "name": str(number)})
            assert bus.journal.count() == number
    engine = create_engine(url)
    assert database.current(engine) == LATEST
    engine.dispose()


def test_in_memory_too() -> None:
    with Bus(make_application(), "sqlite://") as bus:
        bus.journal.create()
        bus.journal.create()
        assert bus.journal.count() == 0


def test_an_older_journal_is_left_to_be_migrated(url: URL) -> None:
    engine = create_engine(url)
    database.upgrade(engine, revision="0001")
    with Bus(make_application(), engine) as bus:
        bus.journal.create()
    assert database.current(engine) == "0001"
    database.upgrade(engine)
    assert database.current(engine) == LATEST
    engine.dispose()


def starting(url: str, schema: str | None, how: str, ready: Any, told: Any) -> None:
    try:
        engine = create_engine(url)
        with Bus(make_application(), url, schema=schema) as bus:
            ready.wait(60)
            database.upgrade(engine, schema) if how == "upgrade" else bus.journal.create()
            told.put(bus.journal.identity())
        engine.dispose()
    except BaseException as error:
        told.put(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("how", ["create", "upgrade", "both"])
@pytest.mark.parametrize("schema", [None, "audit"])
def test_several_processes_at_once_make_one_journal(url: URL, how: str, schema: str | None) -> None:
    if url.get_backend_name() == "sqlite":
        schema = None
    context = multiprocessing.get_context("fork")
    ready, told = context.Barrier(4), context.Queue()
    where = url.render_as_string(hide_password=False)
    ways = ["create", "upgrade"] * 2 if how == "both" else [how] * 4
    processes = [context.Process(target=starting, args=(where, schema, each, ready, told)) for each in ways]
    for process in processes:
        process.start()
    identities = {told.get(timeout=120) for _ in processes}
    for process in processes:
        process.join()
    assert len(identities) == 1, identities
    table = f"{schema}.actionbus_identity" if schema else "actionbus_identity"
    assert query(url, f"SELECT identity FROM {table}") == [(identities.pop(),)]


CALLS: dict[str, Callable[[Bus], Any]] = {
    "execute": lambda bus: bus.execute("open_account", {"id": 1, "name": "a"}),
    "a key": lambda bus: bus.execute("open_account", {"id": 1, "name": "a"}, idempotency_key="k"),
    "execute_async": lambda bus: bus.runner().execute_async("open_account", {"id": 1, "name": "a"}),
    "an unknown action": lambda bus: bus.execute("nothing"),
    "read": lambda bus: list(bus.journal.read()),
    "read upto": lambda bus: list(bus.journal.read(upto=9)),
    "tail": lambda bus: bus.journal.tail(1),
    "settled": lambda bus: bus.journal.settled(),
    "count": lambda bus: bus.journal.count(),
    "last": lambda bus: bus.journal.last(),
    "identity": lambda bus: bus.journal.identity(),
    "get": lambda bus: bus.journal.get(uuid4()),
    "at": lambda bus: bus.journal.at(1),
    "history": lambda bus: bus.journal.history(uuid4()),
    "stats": lambda bus: bus.journal.stats(),
    "versions": lambda bus: bus.journal.versions(),
    "waiting_for": lambda bus: bus.journal.waiting_for(),
    "recover": lambda bus: bus.recover(),
}


@pytest.mark.parametrize("call", CALLS)
def test_without_a_journal_a_call_says_what_to_do(url: URL, call: str) -> None:
    with Bus(make_application(), url, broker=Broker()) as bus:
        Base.metadata.create_all(bus.engine)
        with pytest.raises(JournalUnavailable, match=r"`actionbus db upgrade`, or bus\.journal\.create\(\)"):
            CALLS[call](bus)
        bus.journal.create()
        if call in ("execute", "read"):
            CALLS[call](bus)
    assert query(url, "SELECT count(*) FROM accounts") == [(1 if call == "execute" else 0,)]


def test_a_table_of_the_applications_that_is_missing_is_another_matter(url: URL) -> None:
    with Bus(make_application(), url) as bus:
        bus.journal.create()
        with pytest.raises(Exception, match="accounts"):
            bus.execute("open_account", {"id": 1, "name": "a"})
        assert [record.status for record in bus.journal.read(kind="outcome")] == ["failed"]
