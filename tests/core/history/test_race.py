"""Six processes write the same rows, as actions and past the gateway: the images say what the tables held, any time."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy.engine import URL

from tests.conftest import TORTURE
from tests.core.history.capturing import Captured
from tests.processes import CONTEXT

ROUNDS = 3_000 if TORTURE else 25
OUTCOME = "INSERT INTO journal (kind, status, action_id, action, correlation_id) VALUES ('outcome', 'succeeded', %s, 'x', 'x')"


def _one_transaction(cursor: Any, chance: random.Random, is_action: bool, mark: str) -> None:
    action = uuid4()
    cursor.execute("BEGIN")
    if is_action:
        cursor.execute("SELECT set_config('actionbus.action', %s, true)", (action.hex,))
    for _ in range(chance.randint(1, 3)):
        row, what = chance.randint(1, 30), chance.random()
        if what < 0.2:
            cursor.execute("INSERT INTO t VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET v = excluded.v", (row, mark))
        elif what < 0.3:
            cursor.execute("DELETE FROM t WHERE id = %s", (row,))
        elif what < 0.4:
            cursor.execute("SAVEPOINT s; UPDATE t SET v = 'lost' WHERE id = %s; ROLLBACK TO s", (row,))
        elif what < 0.5:
            cursor.execute("UPDATE t SET id = %s WHERE id = %s", (row + 100, row))
        else:
            cursor.execute("UPDATE t SET v = %s WHERE id BETWEEN %s AND %s", (mark, row, row + 2))
    if chance.random() < 0.1:
        cursor.execute("ROLLBACK")
        return
    if is_action:
        cursor.execute(OUTCOME, (str(action),))
    cursor.execute("COMMIT")


def _write(dsn: str, number: int) -> None:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    cursor, chance = connection.cursor(), random.Random(number)
    for each in range(ROUNDS):
        try:
            _one_transaction(cursor, chance, number % 2 == 0, f"{number}.{each}")
        except psycopg2.Error:  # a deadlock, or a key that is taken
            cursor.execute("ROLLBACK")


@pytest.mark.timeout(3_000 if TORTURE else 300)
def test_images_add_up_to_copies_taken_meanwhile(captured: Captured, postgres_url: URL) -> None:
    """A copy is taken while nobody is between drawing a position and its commit, so that its position is exact."""
    captured.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    captured.install("t")
    captured.run("INSERT INTO t SELECT g, 'start' FROM generate_series(1, 30) g")
    dsn = postgres_url.set(drivername="postgresql").render_as_string(hide_password=False)
    writers = [CONTEXT.Process(target=_write, args=(dsn, number)) for number in range(6)]
    for each in writers:
        each.start()
    copies: list[tuple[int, Counter[str]]] = []
    reader = psycopg2.connect(dsn)
    reader.set_session(isolation_level="REPEATABLE READ")
    while not copies or any(each.is_alive() for each in writers):
        copies.append(_copy(reader))
    copies.append(_copy(reader))
    for each in writers:
        each.join()
        assert each.exitcode == 0
    images = _placed(captured)
    assert all(position is not None for position, _, _ in images)
    for position, copy, folded in _beside(images, copies):
        assert folded == copy, position
    assert len({position for position, _ in copies}) > 5


def _copy(reader: Any) -> tuple[int, Counter[str]]:
    cursor = reader.cursor()
    cursor.execute("LOCK TABLE journal IN SHARE MODE")
    cursor.execute("SELECT max(position) FROM journal")
    position = cursor.fetchone()[0]
    cursor.execute("SELECT ROW(t.*)::text FROM t")
    rows = Counter(row for (row,) in cursor.fetchall())
    reader.commit()
    return position, rows


def _placed(captured: Captured) -> list[tuple[Any, ...]]:
    """Each image with the position of its record: the first of its transaction that covers it."""
    return captured.rows(
        "SELECT (SELECT min(j.position) FROM journal j WHERE j.xid = i.xid AND j.images_upto >= i.image "
        "AND CASE WHEN i.action IS NULL THEN j.kind = 'bypass' ELSE replace(j.action_id::text, '-', '') = i.action END), "
        "i.before, i.after FROM actionbus_images i ORDER BY i.image"
    )


def _beside(
    images: list[tuple[Any, ...]], copies: list[tuple[int, Counter[str]]]
) -> Iterator[tuple[int, Counter[str], Counter[str]]]:
    """Each copy with what the images come to at its position."""
    left = deque(sorted(images, key=lambda each: each[0]))
    total: Counter[str] = Counter()
    for position, copy in sorted(copies, key=lambda each: each[0]):
        while left and left[0][0] <= position:
            _, before, after = left.popleft()
            total.update([after] if after is not None else [])
            total.subtract([before] if before is not None else [])
        yield position, copy, Counter({row: number for row, number in total.items() if number})
