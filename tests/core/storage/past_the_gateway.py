"""What tests of storage do to a PostgreSQL journal past the gateway: statements of their own, holes, careless readers."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg2
from sqlalchemy.engine import URL

from tests.conftest import query
from tests.core.storage.writers import APPEND


def dsn(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def naive(url: URL) -> Any:
    """Reads on from the last position that it saw."""
    return lambda after: [p for (p,) in query(url, f"SELECT position FROM journal WHERE position > {after} ORDER BY 1")]


def open_hole(url: URL) -> Any:
    """A connection that has drawn a position and not committed, and a record beyond it."""
    holder = psycopg2.connect(dsn(url))
    holder.cursor().execute(APPEND, (str(uuid4()), "late"))
    query(
        url,
        f"INSERT INTO journal (action_id, kind, action, correlation_id) VALUES ('{uuid4()}', 'submitted', 'early', 'c')",
    )
    return holder


def now(url: URL, sql: str) -> None:
    connection = psycopg2.connect(dsn(url))
    connection.autocommit = True
    connection.cursor().execute(sql)
    connection.close()
