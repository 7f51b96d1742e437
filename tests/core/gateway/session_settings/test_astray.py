"""What a handler sets in its database session does not decide where its records go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Bus
from tests.conftest import query
from tests.core.gateway.session_settings.saying import WAYS, one_connection, run


@pytest.fixture
def sqlite_bus(sqlite_url: URL) -> Iterator[Bus]:
    """The same on SQLite alone."""
    yield from one_connection(sqlite_url)


def counted(url: URL, table: str) -> int:
    return int(query(url, f"SELECT count(*) FROM {table}")[0][0])


LEADING_AWAY = [
    "SET LOCAL search_path = tenant",
    "SET search_path = tenant",
    "SET LOCAL ROLE tenant_role",
    "SET ROLE tenant_role",
    "SELECT set_config('search_path', 'tenant', true)",
    "SELECT set_config('role', 'tenant_role', true)",
    "SET LOCAL search_path = ''",
]


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
        ("call_back", "submitted", None),
        ("draw", "submitted", None),
        ("draw", "outcome", "succeeded"),
        ("call_back", "outcome", "succeeded"),
        ("call_back", "submitted", None),
        ("call_back", "outcome", "failed"),
    ]
    assert postgres_bus.recover().interrupted == []


@pytest.mark.parametrize("sql", LEADING_AWAY)
def test_no_path_or_role_sends_a_queued_action_astray(
    postgres_bus: Bus, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    from actionbus.adapters.testing.broker import HeldBroker

    postgres_bus.services.broker = HeldBroker()

    def queue(handler: Any) -> None:
        WAYS["text"](handler, sql)
        handler.runner.execute_async("draw")

    run(postgres_bus, monkeypatch, queue)
    assert counted(postgres_bus.engine.url, "public.actionbus_runs") == 1
    assert counted(postgres_bus.engine.url, "tenant.actionbus_runs") == 0


@pytest.mark.parametrize("name", ["journal", "actionbus_runs"])
def test_no_temporary_table_captures_what_is_ours(sqlite_bus: Bus, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Neither the action's own outcome nor what comes after it, though the gateway does not see how it was made."""
    make = f"CREATE TABLE temp.{name} AS SELECT * FROM main.{name}"
    run(sqlite_bus, monkeypatch, lambda handler: WAYS["driver"](handler, make).close())
    sqlite_bus.execute("open_account", {"id": 1, "name": "a"})
    assert [record.status for record in sqlite_bus.journal.read()] == [None, "succeeded"] * 2
    assert counted(sqlite_bus.engine.url, "journal") == 4
    assert sqlite_bus.recover(timedelta(0)).interrupted == []


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
