"""The database refuses to change or delete a record, whoever asks, and to hold two outcomes of an action."""

from __future__ import annotations

import sqlite3

import psycopg2
import pytest
from sqlalchemy import create_engine, delete, insert, text, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from actionbus import Bus
from actionbus.core.storage.table import journal_table
from tests.conftest import BusFactory
from tests.helpers import opened

REFUSED = [
    "UPDATE journal SET actor = 'x'",
    "UPDATE journal SET actor = actor WHERE position = 1",
    "DELETE FROM journal",
    "DELETE FROM journal WHERE position = 2",
]


@pytest.mark.parametrize("statement", [*REFUSED, "TRUNCATE journal", "TRUNCATE journal CASCADE"])
@pytest.mark.parametrize("role", ["origin", "replica", "local"])
def test_postgresql_refuses_every_change(
    make_postgres_bus: BusFactory, postgres_url: URL, statement: str, role: str
) -> None:
    opened(make_postgres_bus(), 1)
    dsn = postgres_url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"SET session_replication_role = {role}")
        with pytest.raises(psycopg2.errors.RestrictViolation, match="append-only"):
            cursor.execute(statement)
    connection.close()


def test_postgresql_refuses_upserts_and_merges_that_would_change(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    opened(make_postgres_bus(), 1)
    engine = create_engine(postgres_url)
    row = "SELECT action_id, kind, action, correlation_id FROM journal LIMIT 1"
    for statement in (
        f"INSERT INTO journal (action_id, kind, action, correlation_id) {row} ON CONFLICT (action_id, kind) DO UPDATE SET actor = 'x'",
        f"MERGE INTO journal j USING ({row}) r ON j.action_id = r.action_id WHEN MATCHED THEN DELETE",
        "INSERT INTO journal (position, action_id, kind, action, correlation_id) "
        "VALUES (1, gen_random_uuid(), 'submitted', 'x', 'x')",
    ):
        with pytest.raises(DBAPIError), engine.begin() as connection:
            connection.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
@pytest.mark.parametrize(
    "statement",
    [
        *REFUSED,
        "INSERT OR REPLACE INTO journal SELECT * FROM journal WHERE position = 1",
        "REPLACE INTO journal (action_id, kind, action, correlation_id) SELECT action_id, kind, 'x', 'x' FROM journal",
        "REPLACE INTO journal (position, action_id, kind, action, correlation_id) VALUES (1, 'x', 'submitted', 'x', 'x')",
        "UPDATE OR REPLACE journal SET position = 2 WHERE position = 1",
        "INSERT INTO journal SELECT * FROM journal WHERE true ON CONFLICT DO UPDATE SET actor = 'x'",
    ],
)
def test_sqlite_refuses_every_change(
    make_sqlite_bus: BusFactory, sqlite_url: URL, statement: str, recursive: str
) -> None:
    bus = opened(make_sqlite_bus(), 1)
    bus.execute("deposit", {"id": 1}, idempotency_key="k")
    before = [record.public() for record in bus.journal.read()]
    connection = sqlite3.connect(str(sqlite_url.database))
    connection.execute(f"PRAGMA recursive_triggers = {recursive}")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), connection:
        connection.execute(statement)
    connection.close()
    assert [record.public() for record in bus.journal.read()] == before


def test_sqlalchemy_is_refused_too(bus: Bus) -> None:
    opened(bus, 1)
    table = journal_table()
    for statement in (update(table).values(actor="x"), delete(table)):
        with pytest.raises(DBAPIError, match="append-only"), bus.engine.begin() as connection:
            connection.execute(statement)


def test_an_action_has_one_outcome_by_constraint(bus: Bus) -> None:
    outcome = opened(bus, 1).execute("deposit", {"id": 1})
    row = {"action_id": outcome.action_id, "kind": "outcome", "status": "failed", "action": "x", "correlation_id": "x"}
    with pytest.raises(DBAPIError), bus.engine.begin() as connection:
        connection.execute(insert(journal_table()).values(**row))
