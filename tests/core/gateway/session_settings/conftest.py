"""Buses with one connection, so that what an action leaves behind meets the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from actionbus import Bus
from tests.conftest import prepared, query
from tests.core.gateway.session_settings.saying import one_connection
from tests.shop.app import make_application


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    """A bus whose pool has one connection, so that what an action leaves behind meets the next."""
    yield from one_connection(url)


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
