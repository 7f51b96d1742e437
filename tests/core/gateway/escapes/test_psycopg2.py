"""Psycopg2's own cursors and transactions are inside of the action's: used first, on the server's side, or as contexts."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from psycopg2.extras import execute_values
from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus import Bus, Misuse
from tests.conftest import query
from tests.core.gateway.escapes.trying import SAID, Attempt, Gone, add, driver, goes_on, ids, last, run
from tests.shop.app import Account, make_application


@pytest.fixture
def postgres_url(databases: dict[str, URL]) -> URL:
    """PostgreSQL, empty."""
    query(databases["postgresql"], "DELETE FROM accounts")
    return databases["postgresql"]


def copied(handler: Any) -> None:
    driver(handler).cursor().copy_expert("COPY accounts (id, name, balance) FROM STDIN", io.StringIO("1\tone\t0\n"))


def values(handler: Any) -> None:
    execute_values(driver(handler).cursor(), "INSERT INTO accounts (id, name, balance) VALUES %s", [(1, "one", 0)])


DRIVER_WRITES: dict[str, Attempt] = {
    "cursor": lambda h: driver(h).cursor().execute("INSERT INTO accounts (id, name, balance) VALUES (1, 'one', 0)"),
    "executemany": lambda h: (
        driver(h).cursor().executemany("INSERT INTO accounts (id, name, balance) VALUES (1, 'one', 0)", [()])
    ),
    "driver_connection": lambda h: (
        driver(h).driver_connection.cursor().execute("INSERT INTO accounts (id, name, balance) VALUES (1, 'one', 0)")
    ),
}
COPIES: dict[str, Attempt] = {"COPY": copied, "execute_values": values}


@pytest.mark.parametrize("way", [*DRIVER_WRITES, *COPIES])
def test_a_drivers_cursor_used_first_is_inside_of_the_transaction(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way in COPIES and bus.engine.dialect.name == "sqlite":
        way = "cursor"  # these two are psycopg2's

    def write(handler: Any) -> None:
        (DRIVER_WRITES | COPIES)[way](handler)

    def then_fail(handler: Any) -> None:
        write(handler)
        raise Gone

    assert isinstance(run(bus, monkeypatch, then_fail), Gone)
    assert ids(bus) == []
    assert run(bus, monkeypatch, write) is None
    assert ids(bus) == [1]
    goes_on(bus)


@pytest.mark.parametrize("sql", SAID)
def test_psycopg2s_cursors_refuse_it_too(postgres_url: URL, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:

    def say(handler: Any) -> None:
        add(handler, 1)
        with pytest.raises(Misuse, match="begin_nested"):
            driver(handler).cursor().execute(sql)
        raise Gone

    with Bus(make_application(), postgres_url) as bus:
        assert isinstance(run(bus, monkeypatch, say), Gone)
        assert ids(bus) == []


def with_connection(handler: Any) -> None:
    connection = driver(handler).driver_connection
    with connection:
        connection.cursor().execute("UPDATE accounts SET balance = 1")


def switched(handler: Any) -> None:
    connection = driver(handler).driver_connection
    connection.autocommit = False
    connection.cursor().execute("UPDATE accounts SET balance = 1")


DRIVERS_OWN_TRANSACTIONS: dict[str, Attempt] = {"autocommit": switched, "with connection": with_connection}


@pytest.mark.parametrize("way", DRIVERS_OWN_TRANSACTIONS)
def test_psycopg2s_own_transactions_are_refused(postgres_url: URL, monkeypatch: pytest.MonkeyPatch, way: str) -> None:

    def attempt(handler: Any) -> None:
        add(handler, 1)
        DRIVERS_OWN_TRANSACTIONS[way](handler)

    engine = create_engine(postgres_url, pool_size=1, max_overflow=0)
    with Bus(make_application(), engine) as bus:
        error = run(bus, monkeypatch, attempt)
        assert isinstance(error, Misuse)  # after `with` psycopg2 rolls back, which is said
        assert (ids(bus), last(bus).status) == ([], "failed")
        goes_on(bus)
    engine.dispose()


def test_a_commit_by_psycopg2_after_such_a_refusal_is_noticed(
    postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:

    def insist(handler: Any) -> None:
        from psycopg2.extensions import cursor as plain

        add(handler, 1)
        connection = driver(handler).driver_connection
        connection.autocommit = False
        connection.cursor(cursor_factory=plain).execute("SELECT 1")
        connection.commit()

    engine = create_engine(postgres_url, pool_size=1, max_overflow=0)
    with Bus(make_application(), engine) as bus:
        assert isinstance(run(bus, monkeypatch, insist), Misuse)
        assert last(bus).status == "failed"
        assert "may have been committed" in last(bus).error["message"]
        query(postgres_url, "DELETE FROM accounts")
        goes_on(bus)
    engine.dispose()


def held(session: Session) -> Any:
    connection: Any = session.connection().connection.dbapi_connection
    connection.cursor("mine").execute("SELECT 1")
    return [tuple(row) for row in session.execute(text("SELECT name, is_holdable FROM pg_cursors WHERE name <> ''"))]


STREAMS: dict[str, Callable[[Session], Any]] = {
    "yield_per": lambda s: s.scalars(
        select(Account.id).order_by(Account.id).with_for_update().execution_options(yield_per=2)
    ).all(),
    "stream_results": lambda s: (
        s.connection()
        .execution_options(stream_results=True)
        .execute(select(Account.id).order_by(Account.id).with_for_update())
        .scalars()
        .all()
    ),
    "a named cursor": lambda s: rows_of(s, "SELECT id FROM accounts ORDER BY id FOR UPDATE"),
    "values": lambda s: rows_of(s, "SELECT id, '%%' FROM accounts WHERE id > %s ORDER BY id FOR UPDATE", (1,)),
    "no values": lambda s: rows_of(s, "SELECT id, '%' FROM accounts ORDER BY id", name='100% "mine"'),
    "scrolling": lambda s: scrolled(s),
    "a name used again": lambda s: [rows_of(s, "SELECT 1"), rows_of(s, "SELECT 2")],
    "said twice": lambda s: said_twice(s),
    "what is held": lambda s: held(s),
}


def rows_of(session: Session, sql: str, values: Any = None, name: str = "mine") -> Any:
    cursor: Any = session.connection().connection.dbapi_connection.cursor(name)  # type: ignore[union-attr, call-arg]
    cursor.itersize = 2
    cursor.execute(sql, values)
    found = [cursor.fetchone(), *cursor.fetchmany(2), *cursor], [column[0] for column in cursor.description]
    cursor.close()
    return found


def scrolled(session: Session) -> Any:
    connection: Any = session.connection().connection.dbapi_connection
    cursor = connection.cursor("mine", scrollable=True)
    cursor.execute("SELECT id FROM accounts ORDER BY id")
    last_two = cursor.fetchall()[-2:]
    cursor.scroll(1, mode="absolute")
    return last_two, cursor.fetchone()


def said_twice(session: Session) -> Any:
    connection: Any = session.connection().connection.dbapi_connection
    with connection.cursor("mine") as cursor:
        cursor.execute("SELECT 1")
        with pytest.raises(Exception, match="more than once"):
            cursor.execute("SELECT 2")
        return cursor.fetchall()


@pytest.mark.parametrize("way", STREAMS)
def test_a_server_side_cursor_is_as_it_is_in_any_other_session(
    postgres_url: URL, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with Bus(make_application(), postgres_url) as bus:
        with Session(bus.engine) as session:
            session.add_all([Account(id=number, name=str(number)) for number in range(1, 8)])
            session.commit()
            expected = STREAMS[way](session)
        got: list[Any] = []
        assert run(bus, monkeypatch, lambda handler: got.append(STREAMS[way](handler.session))) is None
        assert got == [expected]
        goes_on(bus)
