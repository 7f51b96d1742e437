"""What a handler sets in its database session decides neither where its records go nor what the next action meets."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from psycopg2.extensions import new_type, register_type
from psycopg2.extras import DictCursor
from sqlalchemy import create_engine, event, func, select, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from actionbus import Bus
from actionbus.core.storage.statements import HARMLESS, read
from tests.conftest import prepared, query
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, make_application
from tests.waiting import eventually

Say = Callable[[Any, str], Any]
WAYS: dict[str, Say] = {
    "text": lambda h, sql: h.session.execute(text(sql)),
    "exec_driver_sql": lambda h, sql: h.session.connection().exec_driver_sql(sql),
    "driver": lambda h, sql: h.session.connection().connection.cursor().execute(sql),
    "another class": lambda h, sql: another_cursor(driver(h)).execute(sql),
}


def driver(handler: Any) -> Any:
    return handler.session.connection().connection.dbapi_connection


def another_cursor(dbapi: Any) -> Any:
    if isinstance(dbapi, sqlite3.Connection):
        return sqlite3.Cursor(dbapi)
    return dbapi.cursor(cursor_factory=DictCursor)


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    """A bus whose pool has one connection, so that what an action leaves behind meets the next."""
    yield from one_connection(url)


def one_connection(url: URL) -> Iterator[Bus]:
    prepared(url)
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=2)
    with Bus(make_application(), engine) as bus:
        yield bus
    engine.dispose()


@pytest.fixture
def sqlite_bus(sqlite_url: URL) -> Iterator[Bus]:
    """The same on SQLite alone."""
    yield from one_connection(sqlite_url)


@pytest.fixture
def postgres_bus(postgres_url: URL) -> Iterator[Bus]:
    """The same on PostgreSQL, with a role and a schema that have what the journal must not be led to."""
    prepared(postgres_url)
    for sql in (
        "CREATE SCHEMA tenant",
        "CREATE TABLE tenant.journal (LIKE public.journal INCLUDING ALL)",
        "CREATE TABLE tenant.actionbus_runs (LIKE public.actionbus_runs INCLUDING ALL)",
        "CREATE TABLE tenant.accounts (LIKE public.accounts INCLUDING ALL)",
        "DROP ROLE IF EXISTS tenant_role",
        "CREATE ROLE tenant_role",
        "GRANT USAGE ON SCHEMA tenant, public TO tenant_role",
        "GRANT ALL ON tenant.accounts, public.accounts TO tenant_role",
    ):
        query(postgres_url, sql)
    engine = create_engine(postgres_url, pool_size=1, max_overflow=0, pool_timeout=2)
    with Bus(make_application(), engine) as bus:
        yield bus
    engine.dispose()
    query(postgres_url, "DROP OWNED BY tenant_role")
    query(postgres_url, "DROP ROLE tenant_role")


def run(bus: Bus, monkeypatch: pytest.MonkeyPatch, function: Callable[[Any], Any]) -> Any:
    monkeypatch.setattr(CallBack, "function", function)
    return bus.execute("call_back")


def counted(url: URL, table: str) -> int:
    return int(query(url, f"SELECT count(*) FROM {table}")[0][0])


LEADING_AWAY = [
    "SET LOCAL search_path = tenant", "SET search_path = tenant", "SET LOCAL ROLE tenant_role", "SET ROLE tenant_role",
    "SELECT set_config('search_path', 'tenant', true)", "SELECT set_config('role', 'tenant_role', true)",
    "SET LOCAL search_path = ''",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sql", LEADING_AWAY)
def test_no_path_or_role_sends_a_record_into_another_schema(
    postgres_bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, sql: str
) -> None:
    url = postgres_bus.engine.url
    schema = "tenant" if "tenant'" in sql or "= tenant" in sql else "public"

    ids = iter((1, 2))

    def lead_away(handler: Any) -> str:
        WAYS[way](handler, sql)
        one = {"id": next(ids)}
        insert = f"INSERT INTO {schema}.accounts (id, name, balance) VALUES (:id, CAST(:id AS text), 0)"
        handler.session.execute(text(insert), one)
        handler.runner.execute("draw")
        return "fine"

    def and_fail(handler: Any) -> None:
        lead_away(handler)
        raise LookupError

    outcome = run(postgres_bus, monkeypatch, lead_away)
    assert outcome.result == "fine"
    with pytest.raises(LookupError):
        run(postgres_bus, monkeypatch, and_fail)
    assert counted(url, "tenant.journal") == 0
    assert counted(url, f"{schema}.accounts") == 1
    kinds = [(record.action, record.kind, record.status) for record in postgres_bus.journal.read()]
    assert kinds == [
        ("call_back", "submitted", None), ("draw", "submitted", None), ("draw", "outcome", "succeeded"),
        ("call_back", "outcome", "succeeded"), ("call_back", "submitted", None), ("call_back", "outcome", "failed"),
    ]  # fmt: skip
    assert postgres_bus.recover().interrupted == []


@pytest.mark.parametrize("sql", LEADING_AWAY)
def test_no_path_or_role_sends_a_queued_action_astray(
    postgres_bus: Bus, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    from actionbus.adapters.testing.queue import HeldQueue

    postgres_bus.services.queue = HeldQueue()

    def queue(handler: Any) -> None:
        WAYS["text"](handler, sql)
        handler.runner.execute_async("draw")

    run(postgres_bus, monkeypatch, queue)
    assert counted(postgres_bus.engine.url, "public.actionbus_runs") == 1
    assert counted(postgres_bus.engine.url, "tenant.actionbus_runs") == 0


LEFT_BEHIND = {
    "postgresql": [
        "SET default_transaction_read_only = on", "SET statement_timeout = 1", "SET search_path = nowhere",
        "SET TIME ZONE 'Asia/Tokyo'", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET ROLE pg_monitor",
        "SELECT set_config('default_transaction_read_only', 'on', false)", "DEALLOCATE ALL", "DEALLOCATE actionbus_end",
        "/* why */ SET default_transaction_read_only = on", "SELECT 1; SET default_transaction_read_only = on",
        "CREATE TEMP TABLE accounts (id int)", "SELECT pg_advisory_lock(42)", "LISTEN something",
        "SET session_replication_role = replica", "PREPARE actionbus_mine AS SELECT 1",
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "DISCARD SEQUENCES", "SET app.tenant = 'a'",
        "SELECT set_config('search_path', 'nowhere', 'f')", "SELECT set_config('search_path', 'nowhere', 1 = 0)",
        "UPDATE pg_settings SET setting = 'on' WHERE name = 'default_transaction_read_only'",
        'SELECT "pg_advisory_lock"(42)', "SELECT pg_advisory_lock/**/(42)", "CREATE TABLE pg_temp.accounts (id int)",
        "CREATE TEMP VIEW accounts AS SELECT 1", "DO $$BEGIN SET search_path = nowhere; END$$",
        "DO $$BEGIN PERFORM pg_advisory_lock(42); CREATE TEMP TABLE accounts (id int); LISTEN something; END$$",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
    "sqlite": [
        "PRAGMA query_only=ON", "PRAGMA recursive_triggers=OFF", "PRAGMA busy_timeout=0", "PRAGMA ignore_check_constraints=ON",
        'PRAGMA "query_only"=ON', "PRAGMA/**/[query_only]/**/=ON", "CREATE TABLE temp.accounts AS SELECT 1 AS id",
        "CREATE TEMP VIEW accounts AS SELECT 1 AS id", "ATTACH ':memory:' AS other",
        "PRAGMA query_only(1)", "CREATE TEMP TABLE accounts (id int)", "/* why */ PRAGMA main.query_only = ON",
    ],
}  # fmt: skip

SESSION = {
    "postgresql": """
        SELECT name, setting FROM pg_settings WHERE source = 'session' AND name NOT IN ('transaction_isolation')
        UNION ALL SELECT 'temp', objid::text FROM pg_depend
            WHERE refclassid = 'pg_namespace'::regclass AND refobjid = pg_my_temp_schema()
        UNION ALL SELECT 'lock', objid::text FROM pg_locks WHERE locktype = 'advisory'
        UNION ALL SELECT 'channel', pg_listening_channels()
        UNION ALL SELECT 'cursor', name FROM pg_cursors WHERE is_holdable
        UNION ALL SELECT 'statement', name FROM pg_prepared_statements WHERE name NOT LIKE 'actionbus%'
        UNION ALL SELECT 'role', current_user::text
    """,
    "sqlite": """
        SELECT 'query_only', query_only FROM pragma_query_only
        UNION ALL SELECT 'recursive_triggers', recursive_triggers FROM pragma_recursive_triggers
        UNION ALL SELECT 'busy_timeout', timeout FROM pragma_busy_timeout
        UNION ALL SELECT 'checks', ignore_check_constraints FROM pragma_ignore_check_constraints
        UNION ALL SELECT 'temp', name FROM sqlite_temp_master
        UNION ALL SELECT 'file', name FROM pragma_database_list WHERE name <> 'temp'
    """,
}
"""What a session holds beyond what it began with."""


def session_of(bus: Bus) -> list[tuple[Any, ...]]:
    with bus.engine.connect() as connection:
        return sorted(map(tuple, connection.execute(text(SESSION[bus.engine.dialect.name]))))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_handler_leaves_in_its_session_does_not_reach_the_next_action(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, fails: bool
) -> None:
    dialect = bus.engine.dialect.name
    if way == "another class" and dialect == "postgresql":  # by which the gateway's own statements are not seen to go
        monkeypatch.setitem(LEFT_BEHIND, dialect, [sql for sql in LEFT_BEHIND[dialect] if "ALLOCATE" not in sql])
    bus.execute("open_account", {"id": 0, "name": "zero"})
    usual = session_of(bus)
    for number, sql in enumerate(LEFT_BEHIND[dialect], start=1):

        def leave(handler: Any, sql: str = sql) -> None:
            WAYS[way](handler, sql)
            if fails:
                raise LookupError

        try:
            run(bus, monkeypatch, leave)
        except LookupError:
            assert fails
        except Exception as error:  # a timeout of one millisecond may strike the action's own end
            assert "timeout" in sql, (sql, error)
        # A server notices a moment later that a connection was closed.
        eventually(lambda: session_of(bus) == usual, lambda sql=sql: f"{sql} is undone: {session_of(bus)}")
        assert bus.execute("open_account", {"id": number, "name": str(number)}).status == "succeeded", sql


@pytest.mark.parametrize("name", ["journal", "actionbus_runs"])
def test_no_temporary_table_captures_what_is_ours(sqlite_bus: Bus, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Neither the action's own outcome nor what comes after it, though the gateway does not see how it was made."""
    make = f"CREATE TABLE temp.{name} AS SELECT * FROM main.{name}"
    run(sqlite_bus, monkeypatch, lambda handler: WAYS["driver"](handler, make).close())
    sqlite_bus.execute("open_account", {"id": 1, "name": "a"})
    assert [record.status for record in sqlite_bus.journal.read()] == [None, "succeeded"] * 2
    assert counted(sqlite_bus.engine.url, "journal") == 4
    assert sqlite_bus.recover(timedelta(0)).interrupted == []


REFUSING = {sqlite3.SQLITE_INSERT: sqlite3.SQLITE_DENY}
ON_THE_DRIVER: dict[str, dict[str, Callable[[Any], Any]]] = {
    "postgresql": {
        "readonly": lambda d: setattr(d, "readonly", True),
        "isolation_level": lambda d: setattr(d, "isolation_level", 3),
        "deferrable": lambda d: setattr(d, "deferrable", True),
        "set_session": lambda d: d.set_session(readonly=True),
        "set_client_encoding": lambda d: d.set_client_encoding("LATIN1"),
        "register_type": lambda d: register_type(new_type((20, 23), "SEVEN", lambda value, cursor: 7), d),
        "cursor_factory": lambda d: setattr(d, "cursor_factory", DictCursor),
    },
    "sqlite": {
        "row_factory": lambda d: setattr(d, "row_factory", lambda cursor, row: {}),
        "text_factory": lambda d: setattr(d, "text_factory", bytes),
        "query_only": lambda d: d.execute("PRAGMA query_only=ON"),
        "table": lambda d: d.execute("CREATE TEMP TABLE accounts (id INTEGER, name TEXT, balance INTEGER)"),
        "view": lambda d: d.execute("CREATE TEMP VIEW accounts AS SELECT 1 AS id"),
        "setlimit": lambda d: d.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 5),
        "set_authorizer": lambda d: d.set_authorizer(lambda code, *_: REFUSING.get(code, sqlite3.SQLITE_OK)),
        "set_progress_handler": lambda d: d.set_progress_handler(lambda: 1, 1),
        "create_function": lambda d: d.create_function("lower", 1, lambda value: "mine"),
        "create_collation": lambda d: d.create_collation("NOCASE", lambda one, other: 0),
    },
}
FOR_GOOD = ("create_function", "create_collation")


def attributes(bus: Bus) -> tuple[Any, ...]:
    with bus.engine.connect() as connection:
        dbapi: Any = connection.connection.dbapi_connection
        if isinstance(dbapi, sqlite3.Connection):
            lower = dbapi.execute("SELECT lower('A'), 'a' = 'b' COLLATE NOCASE").fetchone()
            limit = dbapi.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
            return dbapi.row_factory, dbapi.text_factory, dbapi.isolation_level, limit, lower
        names = ("readonly", "isolation_level", "deferrable", "encoding", "cursor_factory", "autocommit")
        return tuple(getattr(dbapi, name) for name in names)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("database", ["postgres", "sqlite", "in memory"])
def test_what_a_handler_sets_on_the_drivers_connection_does_not_reach_the_next_action(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, database: str, fails: bool
) -> None:
    url = "sqlite://" if database == "in memory" else request.getfixturevalue(f"{database}_url")
    with Bus(make_application(), url) as bus:
        bus.journal.create()
        Account.metadata.create_all(bus.engine)
        bus.execute("open_account", {"id": 0, "name": "zero"})
        usual = attributes(bus)
        for number, (name, change) in enumerate(ON_THE_DRIVER[bus.engine.dialect.name].items(), start=1):
            if database == "in memory" and name in FOR_GOOD:
                continue  # nothing takes a function back, and the one connection is the database

            def leave(handler: Any, change: Callable[[Any], Any] = change) -> None:
                change(driver(handler))
                if fails:
                    raise LookupError

            if fails:
                with pytest.raises(LookupError):
                    run(bus, monkeypatch, leave)
            else:
                with suppress(Exception):  # such as what is refused to the outcome itself
                    run(bus, monkeypatch, leave)
            assert attributes(bus) == usual, name
            assert bus.execute("open_account", {"id": number, "name": str(number)}).status == "succeeded", name
            assert bus.journal.tail(1)[0].status == "succeeded", name
            with bus.engine.connect() as connection:
                assert connection.execute(text("SELECT count(*) FROM accounts")).scalar() == number + 1, name


def test_what_a_handler_leaves_in_an_in_memory_database_is_put_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with Bus(make_application(), "sqlite://") as bus:
        bus.journal.create()
        Account.metadata.create_all(bus.engine)
        for number, sql in enumerate(
            ("PRAGMA query_only=ON", "PRAGMA foreign_keys=OFF", "PRAGMA recursive_triggers=OFF") * 2
        ):
            run(bus, monkeypatch, lambda h, sql=sql: WAYS["text"](h, sql) and None)
            assert bus.execute("open_account", {"id": number, "name": str(number)}).status == "succeeded"
        with bus.engine.connect() as connection:
            assert connection.execute(text("PRAGMA recursive_triggers")).scalar() == 1


def test_what_the_application_itself_set_when_it_connected_stays(
    postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler changes all of it; the connection is kept, and is again as the application made it."""
    prepared(postgres_url)
    query(postgres_url, "CREATE SCHEMA tenant")
    engine = create_engine(postgres_url, pool_size=1, max_overflow=0, pool_timeout=2)

    @event.listens_for(engine, "connect")
    def settle_in(dbapi: Any, _record: Any) -> None:
        dbapi.autocommit = True
        for sql in (
            "SET search_path = public, tenant", "SET app.tenant = 'o''Brien % \\'", "SET statement_timeout = '2min'",
            "SELECT pg_advisory_lock(7)", "CREATE TEMP TABLE mine (id int)", "LISTEN mine",
        ):  # fmt: skip
            dbapi.cursor().execute(sql)
        dbapi.autocommit = False

    def change(handler: Any) -> int:
        for sql in ("SET search_path = tenant", "SET app.tenant = 'other'", "RESET statement_timeout"):
            handler.session.execute(text(sql))
        return int(driver(handler).info.backend_pid)

    with Bus(make_application(), engine) as bus:
        usual = session_of(bus)
        assert len(usual) > 5
        pids = {run(bus, monkeypatch, change).result for _ in range(2)}
        bus.execute("open_account", {"id": 1, "name": "one"})
        role = ("none", "role")  # is said once by the gateway, to what it was
        assert [row for row in session_of(bus) if row not in (("role", "none"), role)] == usual
        assert len(pids) == 1
    engine.dispose()


def test_another_actions_tenant_is_nobody_elses(postgres_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored function that makes the settings of a tenant, for good, is called by its name alone."""
    body = "PERFORM set_config('search_path', t, false), set_config('app.tenant', t, false)"
    query(
        postgres_bus.engine.url,
        f"CREATE FUNCTION enter(t text) RETURNS void LANGUAGE plpgsql AS $$BEGIN {body}; END$$",
    )

    def enter(handler: Any) -> None:
        handler.session.execute(select(func.enter("tenant")))
        handler.session.add(Account(id=1, name="one"))

    run(postgres_bus, monkeypatch, enter)
    postgres_bus.execute("open_account", {"id": 2, "name": "two"})
    assert query(postgres_bus.engine.url, "SELECT id FROM tenant.accounts") == [(1,)]
    assert query(postgres_bus.engine.url, "SELECT id FROM public.accounts") == [(2,)]
    assert len(list(postgres_bus.journal.read())) == 4


def test_a_deferred_trigger_sees_what_the_handler_has_set(postgres_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres_bus.engine.url
    note = "INSERT INTO public.entries_seen VALUES (current_setting('app.tenant'))"
    query(url, "CREATE TABLE public.entries_seen (tenant text)")
    query(url, f"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {note}; RETURN NULL; END$$")
    query(
        url,
        "CREATE CONSTRAINT TRIGGER noting AFTER INSERT ON public.accounts DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION note()",
    )

    def enter(handler: Any) -> None:
        handler.session.execute(text("SET LOCAL app.tenant = 'a'"))
        handler.session.add(Account(id=1, name="one"))

    run(postgres_bus, monkeypatch, enter)
    assert query(url, "SELECT tenant FROM public.entries_seen") == [("a",)]


def test_a_path_with_functions_of_the_tenants_own_is_no_end(postgres_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's questions are PostgreSQL's to answer, whatever else has their names."""
    url = postgres_bus.engine.url
    for sql in (
        "CREATE FUNCTION tenant.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$SELECT text 'mine'$$",
        "CREATE FUNCTION tenant.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT text 'mine'$$",
        "CREATE FUNCTION tenant.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$SELECT text 'mine'$$",
        "CREATE FUNCTION tenant.never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
        "CREATE OPERATOR tenant.= (LEFTARG = text, RIGHTARG = text, FUNCTION = tenant.never)",
    ):
        query(url, sql)

    def lead(handler: Any) -> str:
        handler.session.execute(text("SET search_path = tenant, public, pg_catalog"))
        return "fine"

    def and_fail(handler: Any) -> None:
        lead(handler)
        raise LookupError

    assert run(postgres_bus, monkeypatch, lead).result == "fine"
    with pytest.raises(LookupError):
        run(postgres_bus, monkeypatch, and_fail)


def test_what_is_local_to_the_transaction_costs_no_connection(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual way of row-level security: a setting for this transaction. Nor does one that the end undoes."""

    def which(handler: Any) -> int:
        session = handler.session
        for _ in range(2):
            session.connection().execute(select(Account.id)).all()
        if session.bind.dialect.name == "postgresql":
            session.execute(text("SET LOCAL app.tenant = 'a'"))
            session.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": "b"})
            session.execute(select(func.set_config("app.tenant", "c", True)))
            session.execute(text("SET app.tenant = 'a'"))
        return len(made)

    made: list[Any] = []
    event.listen(bus.engine, "connect", lambda dbapi, record: made.append(dbapi))
    assert len({run(bus, monkeypatch, which).result for _ in range(3)}) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE accounts SET balance = 1", "SET LOCAL x = 1", "SET CONSTRAINTS ALL IMMEDIATE", "PRAGMA table_info(accounts)",
        "SELECT pg_advisory_xact_lock(1)", "PRAGMA defer_foreign_keys = ON", "CREATE TEMP TABLE x (id int) ON COMMIT DROP", "PRAGMA foreign_keys",
    ],
)  # fmt: skip
def test_what_ends_with_the_transaction_is_nothing_to_clean_up(sql: str) -> None:
    assert not read(sql).outlasts


def test_a_body_of_statements_is_none_of_the_handlers_own() -> None:
    trigger = "CREATE TRIGGER t AFTER INSERT ON accounts BEGIN DELETE FROM entries; END"
    assert read(trigger).ends is None
    assert read("SELECT " + "1, " * 100_000 + "'the end'").ends is None
    assert read("SELECT 1") == HARMLESS
