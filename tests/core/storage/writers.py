"""The processes that write in the campaigns of test_order: on PostgreSQL in plain SQL, on SQLite through a bus."""

from __future__ import annotations

import os
import random
from typing import Any
from uuid import uuid4

import psycopg2

from actionbus import Bus
from tests.shop.app import make_application
from tests.waiting import any_moment

APPEND = (
    "INSERT INTO journal (action_id, kind, action, correlation_id) VALUES (%s, 'submitted', %s, 'c') RETURNING position"
)


def write(where: str, number: int, records: int, failure: Any) -> None:
    """One writer process: about `records` records, in transactions of one to three."""
    try:
        chance = random.Random(number)
        connection = psycopg2.connect(where)
        cursor = connection.cursor()
        written = 0
        while written < records:
            written += _transaction(connection, cursor, chance, number)
    except BaseException as error:
        failure.put(repr(error))
        raise


def _transaction(connection: Any, cursor: Any, chance: random.Random, number: int) -> int:
    """Some transaction that appends; how many records it committed."""
    kind = chance.random()
    if kind < 0.3:
        cursor.execute("UPDATE accounts SET balance = balance + 1 WHERE id = %s", (number + 1,))
        if kind < 0.02:
            any_moment(0.02)  # holds an xid, has drawn nothing
    count = chance.randint(1, 3)
    if chance.random() < 0.05:
        cursor.execute("SAVEPOINT s")
        cursor.execute(APPEND, (str(uuid4()), "lost"))
        cursor.execute("ROLLBACK TO s")
    for _ in range(count):
        cursor.execute(APPEND, (str(uuid4()), f"w{number}"))
    late = chance.random()
    if late < 0.05:
        any_moment(0.03)  # later positions commit first
    if late > 0.93:
        connection.rollback()
        return 0
    if late > 0.91:
        name = f"p{uuid4().hex}"
        cursor.execute(f"PREPARE TRANSACTION '{name}'")
        connection.commit()
        any_moment(0.01)
        connection.autocommit = True
        cursor.execute(f"COMMIT PREPARED '{name}'" if late > 0.915 else f"ROLLBACK PREPARED '{name}'")
        connection.autocommit = False
        return count if late > 0.915 else 0
    connection.commit()
    return count


def deposit(url: str, number: int, times: int) -> None:
    """A writer process on SQLite."""
    with Bus(make_application(), url) as bus:
        for _ in range(times):
            bus.execute("deposit", {"id": number})
    os._exit(0)
