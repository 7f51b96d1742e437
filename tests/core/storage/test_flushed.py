"""A reader shows nothing that a crash of the PostgreSQL server can take back, so it skips nothing that comes instead.

The server's log writer sleeps for ten seconds here, so that what was committed without waiting for the disk, as the
record of a submitted action is, stays off the disk unless somebody sees to it; then the server is stopped without
giving it the time to write anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, Record
from tests.conftest import prepared, query
from tests.core.storage.lazy import LAZY, Shown, append, crash, there
from tests.core.storage.past_the_gateway import dsn
from tests.core.storage.writers import APPEND
from tests.servers import Server
from tests.shop.app import make_application

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def lazy() -> Iterator[Server]:
    """A server that writes to disk only what it is asked to."""
    server = Server(LAZY)
    yield server
    server.close()


@pytest.fixture
def lazy_url(lazy: Server) -> Iterator[URL]:
    """A new database on it."""
    url = lazy.database()
    prepared(url)
    yield url
    lazy.drop(url)


@pytest.fixture
def bus(lazy_url: URL) -> Iterator[Bus]:
    """The shop on it."""
    with Bus(make_application(), lazy_url, reconnect_for=0.0) as bus:
        yield bus


def shown(records: list[Record] | Iterator[Record]) -> Shown:
    return [(record.position, str(record.action_id)) for record in records]


def up_to(bus: Bus, url: URL, settled: int) -> Shown:
    """What somebody sees who reads the table in SQL, up to a position that he was told is settled."""
    return [row for row in there(url) if row[0] <= settled]


def with_a_hole(bus: Bus, url: URL) -> Shown:
    """What is before a hole: the end of the unbroken run is found in a snapshot of its own."""
    holder = psycopg2.connect(dsn(url))
    holder.cursor().execute(APPEND, (str(uuid4()), "late"))
    append(url, synchronous=False)
    found = shown(bus.journal.read(wait=False))
    assert bus.journal.waiting_for()
    holder.close()
    return found


def once_writers_ended(bus: Bus, url: URL) -> Shown:
    """All is flushed; then the writer of a hole, for whom the reader waits, commits without waiting for the disk."""
    holder = psycopg2.connect(dsn(url))
    holder.cursor().execute("SET synchronous_commit = off")
    holder.cursor().execute(APPEND, (str(uuid4()), "late"))
    append(url, synchronous=True)
    found: Shown = []
    reader = threading.Thread(target=lambda: found.extend(shown(bus.journal.read())))
    reader.start()
    while not query(
        url, "SELECT 1 FROM pg_stat_activity WHERE strpos(query, 'pg_locks') > 0 AND pid <> pg_backend_pid()"
    ):
        pass
    holder.commit()
    reader.join(30)
    holder.close()
    return found


CONSUMERS: dict[str, Callable[[Bus, URL], Shown]] = {
    "read": lambda bus, url: shown(bus.journal.read()),
    "read without waiting": lambda bus, url: shown(bus.journal.read(wait=False)),
    "read with a filter": lambda bus, url: shown(bus.journal.read(action="x")),
    "read to a position": lambda bus, url: shown(bus.journal.read(upto=1_000)),
    "tail": lambda bus, url: shown(bus.journal.tail(100)),
    "settled": lambda bus, url: up_to(bus, url, bus.journal.settled()),
    "settled, with patience": lambda bus, url: up_to(bus, url, bus.journal.settled(wait=True, patience=1.0)),
    "at a hole": with_a_hole,
    "past a hole": once_writers_ended,
}


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_what_was_shown_is_still_there_after_a_crash(lazy: Server, lazy_url: URL, bus: Bus, consumer: str) -> None:
    append(lazy_url, synchronous=True)
    append(lazy_url, synchronous=False)
    seen = CONSUMERS[consumer](bus, lazy_url)
    assert len(seen) >= 2, "what is not on disk yet is put there, rather than waited for"
    crash(lazy)
    assert [each for each in seen if each not in there(lazy_url)] == []


@pytest.mark.parametrize("logged", ["positions logged ahead", "positions logged with the record"])
@pytest.mark.parametrize("wait", [True, False])
def test_a_position_that_a_crash_gave_to_another_record_is_not_skipped(
    lazy: Server, lazy_url: URL, bus: Bus, wait: bool, logged: str
) -> None:
    """The sequence puts a note of its own into the log, 32 positions ahead: with that note goes the position."""
    append(lazy_url, synchronous=True)
    if logged == "positions logged with the record":
        query(lazy_url, "SELECT pg_advisory_lock(1)")  # any transaction, so that the checkpoint has something to do
        checkpoint(lazy_url)
    append(lazy_url, synchronous=False, action="perhaps lost")
    followed = shown(bus.journal.read(wait=wait))
    crash(lazy)
    append(lazy_url, synchronous=True, action="after the crash")
    bus.backend.renew_pool()
    followed += shown(bus.journal.read(followed[-1][0], wait=wait))
    assert followed == there(lazy_url)


def checkpoint(url: URL) -> None:
    connection = psycopg2.connect(dsn(url))
    connection.autocommit = True
    connection.cursor().execute("CHECKPOINT")
    connection.close()


def test_what_is_lost_although_nobody_was_shown_it_is_lost(lazy: Server, lazy_url: URL) -> None:
    """Or the tests above would prove nothing."""
    append(lazy_url, synchronous=True)
    checkpoint(lazy_url)
    lost = append(lazy_url, synchronous=False)
    crash(lazy)
    instead = append(lazy_url, synchronous=True)
    assert instead[0] == lost[0]
    assert lost not in there(lazy_url)
