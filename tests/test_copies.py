"""Databases that tests begin with: a copy is as if it were made, and never replaces what a test put there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from tests.conftest import create_recorded_shop, query
from tests.copies import copied
from tests.servers import Server
from tests.shop.app import make_application


@pytest.fixture
def another(url: URL, server: Server, tmp_path: Any) -> Iterator[URL]:
    """A second empty database of the same kind."""
    if url.get_backend_name() == "sqlite":
        yield make_url(f"sqlite:///{tmp_path / 'another.db'}")
        return
    made = server.database()
    yield made
    server.drop(made)


def seen(url: URL) -> tuple[Any, ...]:
    """What a database has: tables, columns, triggers, baselines; whose it is aside."""
    with Bus(make_application(), url) as bus:
        inspector = inspect(bus.engine)
        columns = {name: [str(each) for each in inspector.get_columns(name)] for name in inspector.get_table_names()}
        catalogue = {"sqlite": "SELECT name FROM sqlite_master", "postgresql": "SELECT tgname FROM pg_trigger"}
        with bus.engine.connect() as connection:
            objects = connection.execute(text(catalogue[url.get_backend_name()])).scalars().all()
            shapes = connection.execute(text("SELECT table_name, columns, is_baseline FROM actionbus_shapes")).all()
        done = bus.execute("open_account", {"id": 1, "name": "a"}, actor="ann")
        outcome = bus.journal.outcome(done.action_id)
        assert outcome is not None
        told = [(change.table, change.operation) for change in bus.history.touched(outcome)]
        return columns, sorted(each for each in objects if not each.startswith("RI_")), sorted(map(str, shapes)), told


def test_a_copy_is_as_if_it_were_made(url: URL, another: URL) -> None:
    assert copied(url, "recorded shop", create_recorded_shop)
    create_recorded_shop(another)
    identities = {query(each, "SELECT identity FROM actionbus_identity")[0] for each in (url, another)}
    assert len(identities) == 2, "each journal is one of its own"
    assert seen(url) == seen(another)


def test_each_copy_has_its_own_identity(url: URL, another: URL) -> None:
    assert all(copied(each, "recorded shop", create_recorded_shop) for each in (url, another))
    assert query(url, "SELECT identity FROM actionbus_identity") != query(
        another, "SELECT identity FROM actionbus_identity"
    )


def test_what_somebody_has_used_is_not_replaced(url: URL) -> None:
    query(url, "CREATE TABLE mine (id INTEGER)")
    assert not copied(url, "recorded shop", create_recorded_shop)
    assert query(url, "SELECT count(*) FROM mine") == [(0,)]


def test_settings_of_a_database_are_use(postgres_url: URL, server: Server) -> None:
    query(server.url, f"ALTER DATABASE {postgres_url.database} SET work_mem = '5MB'")
    assert not copied(postgres_url, "recorded shop", create_recorded_shop)


def test_a_server_of_somebody_else_is_left_alone() -> None:
    assert not copied(make_url("postgresql+psycopg2://nobody@nowhere/shop"), "recorded shop", create_recorded_shop)
