"""Nothing that a handler, a provider or its cleanup does on the action's connection escapes the transaction (G2)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg2.extras import execute_values
from sqlalchemy import DDL, create_engine, insert, select, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from actionbus import Bus, Misuse, outside
from tests.conftest import prepared, query
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, Mailer, Repo, checkpoint, make_application

Attempt = Callable[[Any], Any]


class Gone(Exception):
    """What the handlers here raise."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, databases: dict[str, URL]) -> URL:
    """One of the two, empty."""
    found = databases[request.param]
    query(found, "DELETE FROM accounts")
    return found


@pytest.fixture
def postgres_url(databases: dict[str, URL]) -> URL:
    """PostgreSQL, empty."""
    query(databases["postgresql"], "DELETE FROM accounts")
    return databases["postgresql"]


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    """A bus whose pool has one connection, so that what an action leaves behind meets the next."""
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=2)
    with Bus(make_application(), engine) as bus:
        yield bus
    engine.dispose()


def run(bus: Bus, monkeypatch: pytest.MonkeyPatch, function: Attempt) -> BaseException | None:
    monkeypatch.setattr(CallBack, "function", function)
    try:
        bus.execute("call_back")
    except BaseException as error:
        return error
    return None


def ids(bus: Bus) -> list[int]:
    return sorted(row[0] for row in query(bus.engine.url, "SELECT id FROM accounts"))


def last(bus: Bus) -> Any:
    return bus.journal.tail(1, kind="outcome")[0]


def add(handler: Any, number: int) -> None:
    handler.session.add(Account(id=number, name=str(number)))
    handler.session.flush()


def driver(handler: Any) -> Any:
    return handler.session.connection().connection


def goes_on(bus: Bus) -> None:
    """The next action on the same pool is whole: both records, its row, and nothing of anybody else's."""
    before = ids(bus)
    outcome = bus.execute("open_account", {"id": 99, "name": "next"})
    assert ids(bus) == [*before, 99]
    assert [record.kind for record in bus.journal.history(outcome.action_id)] == ["submitted", "outcome"]
    with bus.engine.connect() as connection:  # of the same pool
        dbapi: Any = connection.connection.dbapi_connection
        assert not getattr(dbapi, "in_transaction", False)
        if bus.engine.dialect.name == "postgresql":
            assert dbapi.autocommit is False
            assert dbapi.get_transaction_status() == 0
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert connection.execute(text(held)).scalar() == 0


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


SAID = [
    "COMMIT", "commit", "  /* why */ COMMIT", "-- why\nCOMMIT", "/* a /* nested */ one */ COMMIT", "; COMMIT",
    "END", "ROLLBACK", "ABORT", "COMMIT AND CHAIN", "rollback work", "BEGIN", "START TRANSACTION",
    "PREPARE TRANSACTION 'x'", "RESET ALL", "SELECT 1; COMMIT", "SELECT ';'; COMMIT", "SELECT $$;$$; COMMIT", "SELECT E'\\';'; COMMIT",
]  # fmt: skip
WAYS_TO_SAY: dict[str, Callable[[Any, str], Any]] = {
    "text": lambda h, sql: h.session.execute(text(sql)),
    "text columns": lambda h, sql: h.session.execute(text(sql).columns(Account.id)),
    "from_statement": lambda h, sql: h.session.scalars(select(Account).from_statement(text(sql))).all(),
    "DDL": lambda h, sql: h.session.execute(DDL(sql)),
    "exec_driver_sql": lambda h, sql: h.session.connection().exec_driver_sql(sql),
}


@pytest.mark.parametrize("way", WAYS_TO_SAY)
@pytest.mark.parametrize("sql", SAID)
def test_what_would_end_the_transaction_is_refused_before_it_is_sent(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, sql: str
) -> None:
    def say(handler: Any) -> None:
        add(handler, 1)
        with pytest.raises(Misuse, match="begin_nested"):
            WAYS_TO_SAY[way](handler, sql)
        raise Gone

    error = run(bus, monkeypatch, say)
    assert isinstance(error, Gone), error
    assert ids(bus) == []
    assert last(bus).status == "failed"
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


HARMLESS = [
    "SELECT 'COMMIT'", "SELECT 1 /* COMMIT */", "SELECT 1 -- ; COMMIT", "SELECT 1 AS \"commit\"",
    "SELECT CASE WHEN 1 = 1 THEN 2 END", "SAVEPOINT mine", "SELECT '; COMMIT'",
]  # fmt: skip


@pytest.mark.parametrize("sql", HARMLESS)
def test_what_only_looks_like_it_is_let_through(bus: Bus, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    def say(handler: Any) -> None:
        add(handler, 1)
        handler.session.connection().exec_driver_sql(sql)

    assert run(bus, monkeypatch, say) is None
    assert ids(bus) == [1]


def and_back(handler: Any) -> None:
    cursor = driver(handler).driver_connection.cursor()
    if hasattr(cursor, "executescript"):
        cursor.executescript("BEGIN")  # which commits first
    else:
        from psycopg2.extensions import cursor as plain

        driver(handler).driver_connection.cursor(cursor_factory=plain).execute("COMMIT; BEGIN")


def unseen(sql: str) -> Attempt:
    """Said in a way that nobody stands before."""

    def say(handler: Any) -> None:
        from psycopg2.extensions import cursor as plain

        connection = driver(handler).driver_connection
        if hasattr(connection, "autocommit") and not hasattr(connection, "executescript"):
            connection.cursor(cursor_factory=plain).execute(sql)
        else:
            connection.execute(sql)

    return say


EVASIONS: dict[str, Attempt] = {
    "COMMIT that fails": lambda h: getattr(driver(h).cursor(), "executescript", unseen("COMMIT; nonsense"))(
        "COMMIT" if hasattr(driver(h).cursor(), "executescript") else h
    ),
    "the driver's COMMIT": unseen("COMMIT"),
    "the driver's ROLLBACK": unseen("ROLLBACK"),
    "COMMIT and BEGIN": and_back,
    "session.connection().close()": lambda h: h.session.connection().close(),
    "session.connection().invalidate()": lambda h: h.session.connection().invalidate(),
    "the pool's close()": lambda h: driver(h).close(),
    "the pool's invalidate()": lambda h: driver(h).invalidate(),
    "the driver's close()": lambda h: driver(h).driver_connection.close(),
}


@pytest.mark.parametrize("end", ["returns", "raises"])
@pytest.mark.parametrize("way", EVASIONS)
def test_an_end_that_was_evaded_is_noticed_and_said(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, end: str
) -> None:
    """What was committed past the gateway cannot be taken back; it is never called a success, nor hidden."""

    def evade(handler: Any) -> None:
        add(handler, 1)
        EVASIONS[way](handler)
        if end == "raises":
            raise Gone

    error = run(bus, monkeypatch, evade)
    assert error is not None
    record = last(bus)
    assert record.status == "failed"
    if ids(bus) == [1]:
        assert "COMMIT" in way
        assert isinstance(error, Misuse), error
        assert "may have been committed" in record.error["message"]
    query(bus.engine.url, "DELETE FROM accounts")
    goes_on(bus)


REFUSED: dict[str, Attempt] = {
    "session.commit": lambda h: h.session.commit(),
    "session.rollback": lambda h: h.session.rollback(),
    "session.close": lambda h: h.session.close(),
    "session.reset": lambda h: h.session.reset(),
    "session.invalidate": lambda h: h.session.invalidate(),
    "connection.commit": lambda h: h.session.connection().commit(),
    "isolation of the connection": lambda h: h.session.connection(
        execution_options={"isolation_level": "SERIALIZABLE"}
    ),
    "autocommit of the connection": lambda h: h.session.connection(execution_options={"isolation_level": "AUTOCOMMIT"}),
    "isolation, said later": lambda h: h.session.connection().execution_options(isolation_level="SERIALIZABLE"),
}


@pytest.mark.parametrize("caught", [False, True])
@pytest.mark.parametrize("way", REFUSED)
def test_what_is_the_gateways_is_refused_by_name(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, caught: bool
) -> None:
    def attempt(handler: Any) -> None:
        if "of the connection" not in way:  # these have an effect only as the first thing that is said
            add(handler, 1)
        try:
            REFUSED[way](handler)
        except Misuse:
            if not caught:
                raise
            raise Gone from None
        raise AssertionError("it was let through")

    error = run(bus, monkeypatch, attempt)
    assert isinstance(error, Gone if caught else Misuse), error
    assert (ids(bus), last(bus).status) == ([], "failed")
    goes_on(bus)


@pytest.mark.parametrize("end", ["returns", "raises"])
def test_the_drivers_own_transactions_switched_on_change_nothing(
    postgres_url: URL, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:

    def switch(handler: Any) -> None:
        add(handler, 1)
        driver(handler).driver_connection.autocommit = False
        add(handler, 2)
        driver(handler).driver_connection.commit()
        if end == "raises":
            raise Gone

    engine = create_engine(postgres_url, pool_size=1, max_overflow=0)
    with Bus(make_application(), engine) as bus:
        error = run(bus, monkeypatch, switch)
        assert isinstance(error, Misuse)
        assert last(bus).status == "failed"
        assert "may have been committed" in last(bus).error["message"]
        query(postgres_url, "DELETE FROM accounts")
        goes_on(bus)
    engine.dispose()


def test_after_the_database_rolled_back_by_itself_nothing_commits_on_its_own(
    sqlite_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk makes SQLite roll back; a handler that catches that must not go on in autocommit mode."""
    prepared(sqlite_url)

    def fill(handler: Any) -> None:
        connection = handler.session.connection()
        connection.exec_driver_sql("PRAGMA max_page_count=1")  # SQLite raises it to the pages there are
        try:
            for number in range(1000):
                connection.exec_driver_sql("INSERT INTO accounts VALUES (?, ?, 0)", (number, "x" * 3000))
        except Exception:
            connection.exec_driver_sql("INSERT INTO accounts VALUES (5000, 'after', 0)")

    with Bus(make_application(), sqlite_url) as bus:
        error = run(bus, monkeypatch, fill)
        assert error is not None
        assert ids(bus) == []
        assert last(bus).status == "failed"


CLEANUPS: dict[str, Callable[[Session], Any]] = {
    "add and flush": lambda session: (session.add(Account(id=7, name="seven")), session.flush()),
    "add alone": lambda session: session.add(Account(id=7, name="seven")),
    "execute": lambda session: session.execute(insert(Account).values(id=7, name="seven", balance=0)),
    "text": lambda session: session.execute(text("INSERT INTO accounts VALUES (7, 'seven', 0)")),
}


def with_cleanup(url: URL, clean_up: Callable[[Session], Any]) -> Bus:
    def repo(session: Session) -> Iterator[Repo]:
        yield Repo(session)
        clean_up(session)

    dependencies = {"repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)}
    return Bus(make_application(dependencies=dependencies), url)


@pytest.mark.parametrize("way", CLEANUPS)
def test_what_a_providers_cleanup_writes_is_the_actions_own(url: URL, way: str) -> None:
    with with_cleanup(url, CLEANUPS[way]) as bus:
        with pytest.raises(LookupError):
            bus.execute("withdraw", {"id": 3, "amount": 1})
        assert ids(bus) == []
        outcome = bus.execute("open_account", {"id": 1, "name": "one"})
        assert ids(bus) == [1, 7]
        record = bus.journal.get(outcome.action_id)
        assert record is not None
        assert record.touched is not None
        if way != "text":
            assert len(record.touched["rows"]) == 2
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):  # the cleanup's row is there already
            bus.execute("open_account", {"id": 2, "name": "two"})
        assert ids(bus) == [1, 7]
        assert last(bus).status == "failed"


def test_what_a_cleanup_raises_fails_the_action_and_no_other_cleanup_is_left_out(url: URL) -> None:
    seen: list[str] = []

    def first(session: Session) -> Iterator[Session]:
        yield session
        seen.append("first")

    def repo(first: Session) -> Iterator[Repo]:
        yield Repo(first)
        seen.append("repo")
        raise Gone

    dependencies = {"first": first, "repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)}
    with Bus(make_application(dependencies=dependencies), url) as bus:
        with pytest.raises(Gone):
            bus.execute("open_account", {"id": 1, "name": "one"})
        assert (seen, ids(bus), last(bus).status) == (["repo", "first"], [], "failed")


def test_a_provider_that_yields_twice_is_refused(url: URL) -> None:
    def repo(session: Session) -> Iterator[Repo]:
        yield Repo(session)
        yield Repo(session)

    dependencies = {"repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)}
    with Bus(make_application(dependencies=dependencies), url) as bus:
        with pytest.raises(Misuse, match="yields more than once"):
            bus.execute("open_account", {"id": 1, "name": "one"})
        assert ids(bus) == []


AFTERWARDS: dict[str, Callable[[Session], Any]] = {
    "flush": lambda session: (session.add(Account(id=8, name="eight")), session.flush()),
    "execute": lambda session: session.execute(text("INSERT INTO accounts VALUES (8, 'eight', 0)")),
    "scalars": lambda session: session.scalars(select(Account)).all(),
    "connection": lambda session: session.connection(),
    "commit": lambda session: session.commit(),
}


@pytest.mark.parametrize("way", AFTERWARDS)
@pytest.mark.parametrize("fails", [False, True])
def test_a_session_that_was_kept_is_closed_for_good(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, fails: bool
) -> None:
    kept: list[Session] = []

    def keep(handler: Any) -> None:
        kept.append(handler.session)
        if fails:
            raise Gone

    run(bus, monkeypatch, keep)
    with pytest.raises(Misuse):
        AFTERWARDS[way](kept[0])
    assert ids(bus) == []
    goes_on(bus)
