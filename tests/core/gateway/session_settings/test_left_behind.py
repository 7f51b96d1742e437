"""What a handler sets in its database session does not reach the next action."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from psycopg2.extensions import new_type, register_type
from psycopg2.extras import DictCursor
from sqlalchemy import create_engine, event, func, select, text
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.storage.statements import HARMLESS, read
from tests.conftest import prepared, query
from tests.core.gateway.session_settings.saying import WAYS, driver, run
from tests.shop.app import Account, make_application
from tests.waiting import eventually

LEFT_BEHIND = {
    "postgresql": [
        "SET default_transaction_read_only = on",
        "SET statement_timeout = 1",
        "SET search_path = nowhere",
        "SET TIME ZONE 'Asia/Tokyo'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET ROLE pg_monitor",
        "SELECT set_config('default_transaction_read_only', 'on', false)",
        "DEALLOCATE ALL",
        "DEALLOCATE actionbus_end",
        "/* why */ SET default_transaction_read_only = on",
        "SELECT 1; SET default_transaction_read_only = on",
        "CREATE TEMP TABLE accounts (id int)",
        "SELECT pg_advisory_lock(42)",
        "LISTEN something",
        "SET session_replication_role = replica",
        "PREPARE actionbus_mine AS SELECT 1",
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
        "DISCARD SEQUENCES",
        "SET app.tenant = 'a'",
        "SELECT set_config('search_path', 'nowhere', 'f')",
        "SELECT set_config('search_path', 'nowhere', 1 = 0)",
        "UPDATE pg_settings SET setting = 'on' WHERE name = 'default_transaction_read_only'",
        'SELECT "pg_advisory_lock"(42)',
        "SELECT pg_advisory_lock/**/(42)",
        "CREATE TABLE pg_temp.accounts (id int)",
        "CREATE TEMP VIEW accounts AS SELECT 1",
        "DO $$BEGIN SET search_path = nowhere; END$$",
        "DO $$BEGIN PERFORM pg_advisory_lock(42); CREATE TEMP TABLE accounts (id int); LISTEN something; END$$",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
    "sqlite": [
        "PRAGMA query_only=ON",
        "PRAGMA recursive_triggers=OFF",
        "PRAGMA busy_timeout=0",
        "PRAGMA ignore_check_constraints=ON",
        'PRAGMA "query_only"=ON',
        "PRAGMA/**/[query_only]/**/=ON",
        "CREATE TABLE temp.accounts AS SELECT 1 AS id",
        "CREATE TEMP VIEW accounts AS SELECT 1 AS id",
        "ATTACH ':memory:' AS other",
        "PRAGMA query_only(1)",
        "CREATE TEMP TABLE accounts (id int)",
        "/* why */ PRAGMA main.query_only = ON",
    ],
}

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
            "SET search_path = public, tenant",
            "SET app.tenant = 'o''Brien % \\'",
            "SET statement_timeout = '2min'",
            "SELECT pg_advisory_lock(7)",
            "CREATE TEMP TABLE mine (id int)",
            "LISTEN mine",
        ):
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
        "UPDATE accounts SET balance = 1",
        "SET LOCAL x = 1",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "PRAGMA table_info(accounts)",
        "SELECT pg_advisory_xact_lock(1)",
        "PRAGMA defer_foreign_keys = ON",
        "CREATE TEMP TABLE x (id int) ON COMMIT DROP",
        "PRAGMA foreign_keys",
    ],
)
def test_what_ends_with_the_transaction_is_nothing_to_clean_up(sql: str) -> None:
    assert not read(sql).outlasts


def test_a_body_of_statements_is_none_of_the_handlers_own() -> None:
    trigger = "CREATE TRIGGER t AFTER INSERT ON accounts BEGIN DELETE FROM entries; END"
    assert read(trigger).ends is None
    assert read("SELECT " + "1, " * 100_000 + "'the end'").ends is None
    assert read("SELECT 1") == HARMLESS
