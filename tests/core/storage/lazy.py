"""A PostgreSQL server that writes to disk only what it is asked to; crashes, and what is there afterwards."""

from __future__ import annotations

import signal
from uuid import uuid4

import psycopg2
from sqlalchemy.engine import URL

from tests.conftest import query
from tests.core.storage.past_the_gateway import dsn
from tests.core.storage.writers import APPEND
from tests.servers import Server

Shown = list[tuple[int, str]]
LAZY = "wal_writer_delay = 10s\nautovacuum = off\n"
"""Settings of a server that writes to disk only what it is asked to."""


def crash(server: Server) -> None:
    """As `pg_ctl stop -m immediate` and a start."""
    server.kill(signal.SIGQUIT)
    server.start()


def append(url: URL, *, synchronous: bool, action: str = "x") -> tuple[int, str]:
    """Commit a submitted record as the gateway does: without waiting for the disk, unless `synchronous`."""
    connection = psycopg2.connect(dsn(url))
    cursor = connection.cursor()
    cursor.execute(f"SET synchronous_commit = {'on' if synchronous else 'off'}")
    action_id = str(uuid4())
    cursor.execute(APPEND, (action_id, action))
    [(position,)] = cursor.fetchall()
    connection.commit()
    connection.close()
    return position, action_id


def there(url: URL) -> Shown:
    return [
        (position, str(each)) for position, each in query(url, "SELECT position, action_id FROM journal ORDER BY 1")
    ]
