"""A reader never skips a record, however writers interleave; readers that are not careful do.

Eight processes write: after a business write, some stalled before they draw their positions, some committing late on
purpose, some rolling back a savepoint or everything after a draw, some preparing for two-phase commit. One reader
follows. The same campaign is run with readers and a sequence that are wrong, to see that it would tell.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from core import Bus
from tests.conftest import TORTURE, BusFactory, query
from tests.shop.app import make_application

WRITERS = 8
RECORDS = 200_000 if TORTURE else 12_000
APPEND = (
    "INSERT INTO journal (action_id, kind, action, correlation_id) VALUES (%s, 'submitted', %s, 'c') RETURNING position"
)


def dsn(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


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
            time.sleep(chance.uniform(0, 0.02))  # holds an xid, has drawn nothing
    count = chance.randint(1, 3)
    if chance.random() < 0.05:
        cursor.execute("SAVEPOINT s")
        cursor.execute(APPEND, (str(uuid4()), "lost"))
        cursor.execute("ROLLBACK TO s")
    for _ in range(count):
        cursor.execute(APPEND, (str(uuid4()), f"w{number}"))
    late = chance.random()
    if late < 0.05:
        time.sleep(chance.uniform(0, 0.03))  # later positions commit first
    if late > 0.93:
        connection.rollback()
        return 0
    if late > 0.91:
        name = f"p{uuid4().hex}"
        cursor.execute(f"PREPARE TRANSACTION '{name}'")
        connection.commit()
        time.sleep(chance.uniform(0, 0.01))
        connection.autocommit = True
        cursor.execute(f"COMMIT PREPARED '{name}'" if late > 0.915 else f"ROLLBACK PREPARED '{name}'")
        connection.autocommit = False
        return count if late > 0.915 else 0
    connection.commit()
    return count


class Campaign:
    """Writers at work, and what a reader saw of it."""

    def __init__(self, bus: Bus, url: URL, records: int) -> None:
        self.bus, self.url, self.records = bus, url, records
        with bus.engine.begin() as connection:
            connection.execute(
                text("INSERT INTO accounts (id, name, balance) SELECT i, i::text, 0 FROM generate_series(1, 8) i")
            )

    def follow(self, reader: Any) -> list[int]:
        """Run the writers; every position that `reader(after)` gave, until they are done and it gives no more."""
        context = multiprocessing.get_context("spawn")
        failure = context.Queue()
        share = self.records // WRITERS
        writers = [context.Process(target=write, args=(dsn(self.url), n, share, failure)) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        seen: list[int] = []
        while True:
            done = not any(writer.is_alive() for writer in writers)
            found = list(reader(seen[-1] if seen else 0))
            seen += found
            if done and not found:
                break
        for writer in writers:
            writer.join()
        assert failure.empty(), failure.get()
        return seen

    def there(self) -> list[int]:
        """Every position that is in the journal."""
        return [position for (position,) in query(self.url, "SELECT position FROM journal ORDER BY position")]


@pytest.fixture
def campaign(make_postgres_bus: BusFactory, postgres_url: URL) -> Campaign:
    return Campaign(make_postgres_bus(), postgres_url, RECORDS)


def test_no_record_is_skipped_doubled_or_out_of_order(campaign: Campaign) -> None:
    seen = campaign.follow(lambda after: [record.position for record in campaign.bus.journal.read(after)])
    assert seen == campaign.there()
    assert len(seen) >= RECORDS * 0.95
    assert seen[-1] > len(seen), "there must have been holes for good, or nothing was tried"


def test_with_a_filter_neither(campaign: Campaign) -> None:
    campaign.records = RECORDS // 4
    seen = campaign.follow(lambda after: [r.position for r in campaign.bus.journal.read(after, action="w3")])
    mine = query(campaign.url, "SELECT position FROM journal WHERE action = 'w3' ORDER BY position")
    assert seen == [position for (position,) in mine]


def naive(url: URL) -> Any:
    """Reads on from the last position that it saw."""
    return lambda after: [p for (p,) in query(url, f"SELECT position FROM journal WHERE position > {after} ORDER BY 1")]


def by_snapshot(url: URL) -> Any:
    """At a hole, trusts what it saw once a snapshot's xmin has reached the xmax that it had when it saw the hole."""

    def read(after: int) -> list[int]:
        sql = "SELECT position, pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM journal ORDER BY 1"
        rows = [(position, xmax) for position, xmax in query(url, sql) if position > after]
        if not rows or rows[-1][0] - after == len(rows):
            return [position for position, _ in rows]
        while query(url, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")[0][0] < rows[0][1]:
            time.sleep(0.001)
        return [p for p in naive(url)(after) if p <= rows[-1][0]]

    return read


def ours(bus: Bus) -> Any:
    """Journal.read."""
    return lambda after: [record.position for record in bus.journal.read(after)]


def test_the_campaign_tells_a_naive_reader(campaign: Campaign) -> None:
    campaign.records = min(RECORDS, 12_000)
    assert campaign.follow(naive(campaign.url)) != campaign.there()


@pytest.mark.parametrize("reader", ["ours", "naive", "by snapshot"])
def test_a_transaction_beyond_the_snapshots_xmax(make_postgres_bus: BusFactory, postgres_url: URL, reader: str) -> None:
    """One holds the older xid and draws later: its record is visible while the other's, drawn before, is still open."""
    bus = make_postgres_bus()
    older, younger = psycopg2.connect(dsn(postgres_url)), psycopg2.connect(dsn(postgres_url))
    for number, connection in enumerate((older, younger), start=1):
        connection.cursor().execute(f"INSERT INTO accounts (id, name, balance) VALUES ({number}, '{number}', 0)")
    for connection in (younger, older):
        connection.cursor().execute(APPEND, (str(uuid4()), "x"))
    older.commit()
    read = {"ours": ours(bus), "naive": naive(postgres_url), "by snapshot": by_snapshot(postgres_url)}[reader]
    threading.Timer(0.5, younger.commit).start()
    seen = read(0)
    time.sleep(0.8)
    seen += read(seen[-1])
    assert (seen == [1, 2]) is (reader == "ours")
    older.close()
    younger.close()


@pytest.mark.parametrize("cache", [1, 10])
def test_a_sequence_with_a_cache_breaks_the_order(make_postgres_bus: BusFactory, postgres_url: URL, cache: int) -> None:
    """Positions drawn in blocks are used long after later ones: nothing could make a reader wait for them."""
    bus = make_postgres_bus()
    query(postgres_url, f"ALTER SEQUENCE journal_position_seq CACHE {cache}")
    writers = [psycopg2.connect(dsn(postgres_url)) for _ in range(2)]
    seen: list[int] = []
    for turn in range(4):
        writers[turn % 2].cursor().execute(APPEND, (str(uuid4()), "x"))
        writers[turn % 2].commit()
        seen += ours(bus)(seen[-1] if seen else 0)
    there = [position for (position,) in query(postgres_url, "SELECT position FROM journal ORDER BY position")]
    assert (seen == there) is (cache == 1)
    for writer in writers:
        writer.close()


def open_hole(url: URL) -> Any:
    """A connection that has drawn a position and not committed, and a record beyond it."""
    holder = psycopg2.connect(dsn(url))
    holder.cursor().execute(APPEND, (str(uuid4()), "late"))
    query(
        url,
        f"INSERT INTO journal (action_id, kind, action, correlation_id) VALUES ('{uuid4()}', 'submitted', 'early', 'c')",
    )
    return holder


def test_at_a_hole_a_reader_waits_for_its_writer_and_says_for_whom(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    journal = make_postgres_bus().journal
    holder = open_hole(postgres_url)
    assert [r.action for r in journal.read(wait=False)] == []
    assert journal.settled() == 0
    assert journal.waiting_for() == [f"process {holder.get_backend_pid()}"]
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.extend(record.action for record in journal.read()))
    reader.start()
    time.sleep(0.3)
    assert found == []
    holder.commit()
    reader.join(10)
    assert found == ["late", "early"]
    assert journal.waiting_for() == []
    holder.close()


def test_a_prepared_transaction_is_waited_for_under_its_new_name(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    journal = make_postgres_bus().journal
    holder = open_hole(postgres_url)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.extend(record.action for record in journal.read()))
    reader.start()
    time.sleep(0.1)
    holder.cursor().execute("PREPARE TRANSACTION 'waiting'")
    holder.commit()
    time.sleep(0.3)
    assert journal.waiting_for() == ["prepared transaction waiting"]
    assert found == []
    holder.autocommit = True
    holder.cursor().execute("COMMIT PREPARED 'waiting'")
    reader.join(10)
    assert found == ["late", "early"]
    holder.close()


def test_an_unrelated_long_transaction_delays_nobody_at_an_old_hole(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    bus = make_postgres_bus()
    holder = open_hole(postgres_url)
    holder.rollback()
    other = psycopg2.connect(dsn(postgres_url))
    other.cursor().execute("INSERT INTO accounts (id, name, balance) VALUES (1, 'x', 0)")
    other.cursor().execute("SELECT * FROM journal")
    started = time.monotonic()
    assert [record.action for record in bus.journal.read()] == ["early"]
    assert time.monotonic() - started < 5, "it waited for the unrelated transaction"
    other.close()
    holder.close()


def test_a_reader_does_not_wait_for_later_writers_again_and_again(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    """New transactions keep coming; only those there when the hole was seen count."""
    journal = make_postgres_bus().journal
    holder = open_hole(postgres_url)
    stop = threading.Event()

    def keep_writing() -> None:
        held: list[Any] = []
        while not stop.is_set():
            connection = psycopg2.connect(dsn(postgres_url))
            connection.cursor().execute(APPEND, (str(uuid4()), "more"))
            held.append(connection)
            if len(held) > 3:
                held.pop(0).rollback()
        for connection in held:
            connection.close()

    writer = threading.Thread(target=keep_writing)
    writer.start()
    threading.Timer(0.3, holder.rollback).start()
    try:
        assert next(iter(journal.read())).action == "early"
    finally:
        stop.set()
        writer.join()
        holder.close()


def test_sqlite_readers_follow_eight_writers(make_sqlite_bus: BusFactory, sqlite_url: URL) -> None:
    bus = make_sqlite_bus()
    for number in range(WRITERS):
        bus.execute("open_account", {"id": number, "name": str(number)})
    context = multiprocessing.get_context("spawn")
    share = 4_000 if TORTURE else 60
    writers = [context.Process(target=deposit, args=(str(sqlite_url), n, share)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    seen: list[int] = []
    while True:
        done = not any(writer.is_alive() for writer in writers)
        found = [record.position for record in bus.journal.read(seen[-1] if seen else 0)]
        seen += found
        if done and not found:
            break
    assert seen == [position for (position,) in query(sqlite_url, "SELECT position FROM journal ORDER BY 1")]
    assert len(seen) == 2 * WRITERS * (share + 1)


def deposit(url: str, number: int, times: int) -> None:
    """A writer process on SQLite."""
    with Bus(make_application(), url) as bus:
        for _ in range(times):
            bus.execute("deposit", {"id": number})
    os._exit(0)
