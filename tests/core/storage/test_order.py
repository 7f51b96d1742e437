"""A reader never skips a record, however writers interleave; readers that are not careful do.

Eight processes write: after a business write, some stalled before they draw their positions, some committing late on
purpose, some rolling back a savepoint or everything after a draw, some preparing for two-phase commit. One reader
follows. The same campaign is run with readers and a sequence that are wrong, to see that it would tell.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.storage import reader as reader_of_positions
from tests.conftest import TORTURE, BusFactory, query
from tests.core.storage.past_the_gateway import dsn, naive, open_hole
from tests.core.storage.writers import APPEND, deposit, write
from tests.processes import CONTEXT
from tests.waiting import PATIENCE_S, Asked, answered, eventually

WRITERS = 8
RECORDS = 200_000 if TORTURE else 4_000


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
        failure = CONTEXT.Queue()
        share = self.records // WRITERS
        writers = [CONTEXT.Process(target=write, args=(dsn(self.url), n, share, failure)) for n in range(WRITERS)]
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


def test_nor_where_the_end_is_settled_at_once(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a process looks at a long journal for the first time, and here at every record."""
    monkeypatch.setattr(reader_of_positions, "_SCAN", 1)
    seen = campaign.follow(lambda after: [record.position for record in campaign.bus.journal.read(after)])
    assert seen == campaign.there()


@pytest.mark.parametrize("long", [False, True])
def test_a_long_journal_is_settled_by_as_many_statements_as_a_short_one(
    make_postgres_bus: BusFactory, postgres_url: URL, long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_of_positions, "_SCAN", 10)
    bus = make_postgres_bus()
    fill = (
        "INSERT INTO journal (action_id, kind, action, correlation_id) SELECT gen_random_uuid(), 'submitted', 'x', 'c'"
    )
    query(postgres_url, f"{fill} FROM generate_series(1, {1000 if long else 11})")
    statements: list[str] = []
    event.listen(bus.backend.gateway, "before_cursor_execute", lambda *given: statements.append(given[2]))
    assert bus.journal.settled() == (1000 if long else 11)
    assert 1 <= len(statements) <= 6


def test_in_a_long_journal_too_nothing_is_settled_beyond_a_hole(
    make_postgres_bus: BusFactory, postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_of_positions, "_SCAN", 3)
    monkeypatch.setattr(reader_of_positions, "_MOMENT_S", 0.0)
    fill = (
        "INSERT INTO journal (action_id, kind, action, correlation_id) SELECT gen_random_uuid(), 'submitted', 'x', 'c'"
    )
    bus = make_postgres_bus()
    query(postgres_url, f"{fill} FROM generate_series(1, 10)")
    holder = open_hole(postgres_url)
    query(postgres_url, f"{fill} FROM generate_series(1, 10)")
    assert bus.journal.settled() == 10
    with at_the_hole(bus) as found:
        holder.commit()
    assert found == list(range(1, 23))
    holder.close()


def test_with_a_filter_neither(campaign: Campaign) -> None:
    campaign.records = RECORDS // 4
    seen = campaign.follow(lambda after: [r.position for r in campaign.bus.journal.read(after, action="w3")])
    mine = query(campaign.url, "SELECT position FROM journal WHERE action = 'w3' ORDER BY position")
    assert seen == [position for (position,) in mine]


def by_snapshot(url: URL) -> Any:
    """At a hole, trusts what it saw once a snapshot's xmin has reached the xmax that it had when it saw the hole."""

    def read(after: int) -> list[int]:
        sql = "SELECT position, pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM journal ORDER BY 1"
        rows = [(position, xmax) for position, xmax in query(url, sql) if position > after]
        if not rows or rows[-1][0] - after == len(rows):
            return [position for position, _ in rows]
        xmin = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        eventually(lambda: query(url, xmin)[0][0] >= rows[0][1], "xmin reaches xmax")
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
    if reader == "ours":
        with at_the_hole(bus) as seen:
            younger.commit()
        assert seen == [1, 2]
    else:
        read = {"naive": naive(postgres_url), "by snapshot": by_snapshot(postgres_url)}[reader]
        seen = read(0)
        younger.commit()
        assert seen + read(seen[-1]) == [2]
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


@contextmanager
def at_the_hole(bus: Bus) -> Iterator[list[int]]:
    """While a reader waits at a hole; what it found, once whoever made the hole has ended."""
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.extend(ours(bus)(0)))
    asked = Asked(bus)
    reader.start()
    asked.until_again()
    assert found == []
    yield found
    reader.join(PATIENCE_S)
    assert not reader.is_alive(), "it waits for others too"


def still_at_the_hole(bus: Bus, found: list[int]) -> None:
    """After the reader has looked again."""
    Asked(bus).until_again()
    assert found == []


def test_at_a_hole_a_reader_waits_for_its_writer_and_says_for_whom(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    bus = make_postgres_bus()
    journal = bus.journal
    holder = open_hole(postgres_url)
    assert [r.action for r in journal.read(wait=False)] == []
    assert journal.settled() == 0
    assert journal.waiting_for() == [f"process {holder.get_backend_pid()}"]
    with at_the_hole(bus) as found:
        holder.commit()
    assert found == [1, 2]
    assert journal.waiting_for() == []
    holder.close()


def test_a_prepared_transaction_is_waited_for_under_its_new_name(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    bus, other = make_postgres_bus(), make_postgres_bus()
    holder = open_hole(postgres_url)
    with at_the_hole(bus) as found:
        holder.cursor().execute("PREPARE TRANSACTION 'waiting'")
        holder.commit()
        still_at_the_hole(bus, found)
        assert other.journal.waiting_for() == ["prepared transaction waiting"]
        holder.autocommit = True
        holder.cursor().execute("COMMIT PREPARED 'waiting'")
    assert found == [1, 2]
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
    found = answered(lambda: [record.action for record in bus.journal.read()], "the reader waits for the other one")
    assert found == ["early"]
    other.close()
    holder.close()


def test_a_reader_does_not_wait_for_later_writers_again_and_again(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    """New transactions keep coming; only those there when the hole was seen count."""
    bus = make_postgres_bus()
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
    try:
        with at_the_hole(bus) as found:
            holder.rollback()
        assert found[0] == 2
    finally:
        stop.set()
        writer.join()
        holder.close()


def test_sqlite_readers_follow_eight_writers(make_sqlite_bus: BusFactory, sqlite_url: URL) -> None:
    bus = make_sqlite_bus()
    for number in range(WRITERS):
        bus.execute("open_account", {"id": number, "name": str(number)})
    share = 4_000 if TORTURE else 25
    writers = [CONTEXT.Process(target=deposit, args=(str(sqlite_url), n, share)) for n in range(WRITERS)]
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
