"""Nothing that a handler, a provider or its cleanup does on the action's connection escapes the transaction (G2)."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg2.extras import execute_values
from sqlalchemy import DDL, create_engine, event, insert, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError
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
    "PREPARE TRANSACTION 'x'", "RESET ALL", "SELECT 1; COMMIT", "--x\r COMMIT", "SELECT 1 AS a$b$; COMMIT", "\ufeffCOMMIT",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMIT",
    "CREATE TRIGGER t AFTER INSERT ON accounts BEGIN SELECT CASE WHEN 1 THEN 2 END; END; COMMIT", "SELECT ';'; COMMIT", "SELECT $$;$$; COMMIT", "SELECT E'\\';'; COMMIT",
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


SQLITE_COMMITS: dict[str, Callable[[Any], Any]] = {
    "commit()": lambda d: d.commit(),
    "rollback()": lambda d: d.rollback(),
    "COMMIT": lambda d: d.execute("COMMIT"),
    "COMMIT of a cursor": lambda d: d.cursor().execute("/* why */ END"),
    "executescript": lambda d: d.executescript("CREATE INDEX IF NOT EXISTS by_name ON accounts (name)"),
    "executescript, later": lambda d: d.executescript("SELECT 1; COMMIT"),
    "with": lambda d: d.__exit__(None, None, None),
    "isolation_level": lambda d: setattr(d, "isolation_level", None),
    "the gateway's savepoint": lambda d: d.execute("RELEASE actionbus_begun"),
    "back to the gateway's savepoint": lambda d: d.execute("ROLLBACK TO actionbus_begun"),
}


@pytest.mark.parametrize("place", ["handler", "caught", "nested", "clean-up", "outcome of an error"])
@pytest.mark.parametrize("way", SQLITE_COMMITS)
def test_sqlites_driver_is_refused_the_end_of_the_transaction(
    sqlite_url: URL, monkeypatch: pytest.MonkeyPatch, way: str, place: str
) -> None:
    """Whoever says it and wherever: nothing stays of an action that failed, and all of one that went on."""
    prepared(sqlite_url)

    def end(session: Session) -> None:
        SQLITE_COMMITS[way](session.connection().connection.dbapi_connection)

    def repo(session: Session) -> Iterator[Repo]:
        yield Repo(session)
        if place == "clean-up":
            end(session)

    def attempt(handler: Any) -> None:
        add(handler, 1)
        if place == "caught":
            with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
                end(handler.session)
        elif place == "nested":
            monkeypatch.setattr(CallBack, "function", lambda inner: end(inner.session))
            handler.runner.execute("call_back")
        elif place == "outcome of an error":
            try:
                end(handler.session)
            finally:
                raise Gone
        elif place == "handler":
            end(handler.session)

    dependencies = {"repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)}
    with Bus(make_application(dependencies=dependencies), sqlite_url) as bus:
        if place == "clean-up":
            with pytest.raises(Misuse, match="begin_nested"):
                bus.execute("open_account", {"id": 1, "name": "one"})
        else:
            error = run(bus, monkeypatch, attempt)
            assert error is None if place == "caught" else isinstance(error, Misuse), error
            assert place == "caught" or "begin_nested" in str(error)
        assert ids(bus) == ([1] if place == "caught" else [])
        assert last(bus).status == ("succeeded" if place == "caught" else "failed")


def test_after_sqlalchemy_rolled_back_sqlites_driver_commits_nothing_on_its_own(
    sqlite_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(sqlite_url)

    def go_on(handler: Any) -> None:
        dbapi = driver(handler).dbapi_connection
        add(handler, 1)
        handler.session.add(Account(id=1, name="again"))
        with pytest.raises(IntegrityError):
            handler.session.flush()
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            dbapi.execute("INSERT INTO accounts VALUES (9, 'late', 0)")

    with Bus(make_application(), sqlite_url) as bus:
        assert isinstance(run(bus, monkeypatch, go_on), Misuse)
        assert (ids(bus), last(bus).status) == ([], "failed")


def test_an_applications_own_authorizer_is_kept(sqlite_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(sqlite_url)
    asked: list[int] = []

    def settle_in(dbapi: Any, _record: Any) -> None:
        dbapi.set_authorizer(lambda code, *_: asked.append(code) or sqlite3.SQLITE_OK)

    engine = create_engine(sqlite_url)
    event.listen(engine, "connect", settle_in)
    with engine.connect():
        pass  # so that there is a connection before there is a bus
    with Bus(make_application(), engine) as bus:
        asked.clear()
        assert run(bus, monkeypatch, lambda handler: add(handler, 1)) is None
        assert sqlite3.SQLITE_INSERT in asked
        error = run(bus, monkeypatch, lambda handler: driver(handler).commit())
        assert "was ended inside" in str(error)  # noticed, where the one authorizer that there can be is not ours
    engine.dispose()


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


def held(session: Session) -> Any:
    connection: Any = session.connection().connection.dbapi_connection
    connection.cursor("mine").execute("SELECT 1")
    return [tuple(row) for row in session.execute(text("SELECT name, is_holdable FROM pg_cursors WHERE name <> ''"))]


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


@pytest.mark.parametrize("end", ["returns", "raises"])
@pytest.mark.parametrize("by", ["session", "connection"])
def test_who_listens_to_the_sessions_end_writes_nothing(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, by: str, end: str
) -> None:
    refused: list[BaseException] = []

    def attempt(handler: Any) -> None:
        add(handler, 1)
        session, connection = handler.session, handler.session.connection()

        def write(_session: Session, transaction: Any) -> None:
            if transaction.parent is None and not refused:
                try:
                    statement = text("INSERT INTO accounts (id, name, balance) VALUES (9, 'late', 0)")
                    (session if by == "session" else connection).execute(statement)
                except BaseException as error:
                    refused.append(error)
                    raise

        event.listen(session, "after_transaction_end", write)
        if end == "raises":
            raise Gone

    error = run(bus, monkeypatch, attempt)
    assert error is None if end == "returns" else isinstance(error, Gone)
    assert [type(each) for each in refused] == [Misuse]
    assert "comes too late" in str(refused[0])
    assert ids(bus) == ([1] if end == "returns" else [])
    assert last(bus).status == ("succeeded" if end == "returns" else "failed")
    assert "listens to the end of an action's session" in caplog.text
    goes_on(bus)


@pytest.mark.parametrize("way", ["connection", "pool"])
def test_a_connection_that_is_detached_is_closed(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    kept: list[Any] = []

    def detach(handler: Any) -> None:
        add(handler, 1)
        kept.append(driver(handler).dbapi_connection)
        (handler.session.connection() if way == "connection" else driver(handler)).detach()

    error = run(bus, monkeypatch, detach)
    assert isinstance(error, Misuse)
    assert "detached" in str(error)
    with pytest.raises(Exception, match="closed"):
        kept[0].cursor().execute("INSERT INTO accounts (id, name, balance) VALUES (9, 'late', 0)")
    assert (ids(bus), last(bus).status) == ([], "failed")
    assert "Exception" not in caplog.text
    goes_on(bus)


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
        bus.create()
        with pytest.raises(LookupError):
            bus.execute("withdraw", {"id": 3, "amount": 1})
        assert ids(bus) == []
        outcome = bus.execute("open_account", {"id": 1, "name": "one"})
        assert ids(bus) == [1, 7]
        record = bus.journal.get(outcome.action_id)
        assert record is not None
        assert [change.key for change in record.touched] == [{"id": 1}, {"id": 7}], "of whatever writes"
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
