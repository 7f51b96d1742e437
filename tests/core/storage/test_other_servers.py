"""A journal that is another server's is not read as if it were in order: a logical subscriber's, a standby's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, JournalUnavailable
from actionbus.core.history.install import install, status
from actionbus.core.history.shapes import TableWanted
from tests.conftest import prepared, query
from tests.core.storage.past_the_gateway import dsn, naive, now
from tests.core.storage.writers import APPEND
from tests.servers import Server
from tests.shop.app import make_application

pytestmark = pytest.mark.server
READS: dict[str, Callable[[Bus], Any]] = {
    "read": lambda bus: list(bus.journal.read()),
    "read without waiting": lambda bus: list(bus.journal.read(wait=False)),
    "tail": lambda bus: bus.journal.tail(5),
    "settled": lambda bus: bus.journal.settled(),
    "waiting_for": lambda bus: bus.journal.waiting_for(),
}


@pytest.fixture(scope="module")
def logical() -> Iterator[Server]:
    """A server that replicates logically."""
    server = Server("wal_level = logical\n")
    yield server
    server.close()


class Pair:
    """A publisher and its subscriber: two databases of one server."""

    def __init__(self, server: Server) -> None:
        self.publisher, self.subscriber = server.database(), server.database()
        for url in (self.publisher, self.subscriber):
            prepared(url)
        now(self.publisher, "CREATE PUBLICATION journals FOR TABLE journal")
        self.slots: list[str] = []
        self.subscribe()

    def subscribe(self) -> None:
        """Begin to replicate."""
        self.slots.append(f"slot_{uuid4().hex[:8]}")
        now(self.publisher, f"SELECT pg_create_logical_replication_slot('{self.slots[-1]}', 'pgoutput')")
        where = f"host={self.publisher.query['host']} user=postgres dbname={self.publisher.database}"
        how = f"create_slot = false, copy_data = false, slot_name = '{self.slots[-1]}'"
        now(self.subscriber, f"CREATE SUBSCRIPTION ours CONNECTION '{where}' PUBLICATION journals WITH ({how})")

    def arrived(self, positions: list[int]) -> None:
        """Wait until the subscriber's table holds exactly these."""
        deadline = time.monotonic() + 60
        while [p for (p,) in query(self.subscriber, "SELECT position FROM journal ORDER BY 1")] != positions:
            assert time.monotonic() < deadline, f"{positions} did not arrive"
            time.sleep(0.02)

    def part(self) -> None:
        """End the subscription, as one does before the subscriber takes over."""
        now(self.subscriber, "ALTER SUBSCRIPTION ours DISABLE")
        now(self.subscriber, "ALTER SUBSCRIPTION ours SET (slot_name = NONE)")
        now(self.subscriber, "DROP SUBSCRIPTION ours")


def as_reader(url: URL) -> URL:
    """A role that may read the journal and nothing else."""
    name = f"reader_{uuid4().hex[:8]}"
    now(url, f"CREATE ROLE {name} LOGIN")
    now(url, f"GRANT SELECT ON journal, actionbus_archives TO {name}")
    return url.set(username=name)


@pytest.fixture
def pair(logical: Server) -> Iterator[Pair]:
    """The two, replicating."""
    pair = Pair(logical)
    yield pair
    if query(pair.subscriber, "SELECT 1 FROM pg_subscription WHERE subname = 'ours'"):
        pair.part()
    logical.drop(pair.subscriber)
    deadline = time.monotonic() + 60
    while query(pair.publisher, "SELECT 1 FROM pg_replication_slots WHERE active"):
        assert time.monotonic() < deadline, "a slot is still in use"
        time.sleep(0.02)
    for slot in pair.slots:
        query(pair.publisher, f"SELECT pg_drop_replication_slot('{slot}')")
    logical.drop(pair.publisher)


def replicated_out_of_order(pair: Pair) -> list[int]:
    """What a reader that only follows the positions gets on the subscriber."""
    first, second = psycopg2.connect(dsn(pair.publisher)), psycopg2.connect(dsn(pair.publisher))
    for connection in (first, second):
        connection.cursor().execute(APPEND, (str(uuid4()), "x"))
    second.commit()
    pair.arrived([2])
    seen: list[int] = naive(pair.subscriber)(0)
    first.commit()
    pair.arrived([1, 2])
    seen += naive(pair.subscriber)(seen[-1])
    first.close()
    second.close()
    return seen


@pytest.mark.parametrize("role", ["owner", "reader"])
def test_a_logical_subscriber_is_refused_by_name(pair: Pair, role: str) -> None:
    assert replicated_out_of_order(pair) == [2], "records are skipped there, or nothing was tried"
    url = pair.subscriber if role == "owner" else as_reader(pair.subscriber)
    with Bus(make_application(), url) as bus:
        for read in READS.values():
            with pytest.raises(JournalUnavailable, match="read from the publisher"):
                read(bus)
    with Bus(make_application(), pair.publisher) as bus:
        assert [record.position for record in bus.journal.read()] == [1, 2]


def test_it_is_noticed_however_long_the_reader_is_at_work(pair: Pair) -> None:
    pair.part()
    with Bus(make_application(), pair.subscriber) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        assert len(list(bus.journal.read())) == 2
        pair.subscribe()
        with pytest.raises(JournalUnavailable, match="read from the publisher"):
            bus.journal.settled()


def test_a_subscriber_is_written_once_what_it_says_is_done(pair: Pair) -> None:
    replicated_out_of_order(pair)
    with Bus(make_application(), pair.subscriber) as bus:
        told = refused(bus, "drop the subscription and then run ")
        pair.part()
        assert refused(bus, "somebody who may has to run ") == told
        query(pair.subscriber, told)
        bus.execute("open_account", {"id": 1, "name": "a"})
        assert [record.position for record in bus.journal.read()] == [1, 2, 3, 4]


def refused(bus: Bus, words: str) -> str:
    """What an action is refused with, after these words."""
    with pytest.raises(JournalUnavailable, match=f"nothing was run.*{words}") as caught:
        bus.execute("open_account", {"id": 1, "name": "a"})
    return str(caught.value).partition(words)[2]


def test_an_empty_subscriber_is_refused_too(pair: Pair) -> None:
    with Bus(make_application(), pair.subscriber) as bus:
        for read in READS.values():
            with pytest.raises(JournalUnavailable, match="read from the publisher"):
                read(bus)


@pytest.mark.parametrize("before", ["at once", "after reading the primary"])
def test_a_standby_is_refused_by_name(server: Server, postgres_url: URL, before: str) -> None:
    prepared(postgres_url)
    with Bus(make_application(), postgres_url) as primary:
        primary.execute("open_account", {"id": 1, "name": "a"})
    empty = server.database()
    prepared(empty)
    with server.standby() as standby, Bus(make_application(), standby.set(database=postgres_url.database)) as bus:
        with Bus(make_application(), standby.set(database=empty.database)) as nothing:
            for read in READS.values():
                with pytest.raises(JournalUnavailable, match="standby"):
                    read(nothing)
        if before == "after reading the primary":  # a name that leads to another server after a failover
            bus.journal.look_again(1)
        assert bus.journal.get(uuid4()) is None, "what asks for one action is answered"
        for read in READS.values():
            with pytest.raises(JournalUnavailable, match="standby"):
                read(bus)
        with pytest.raises(JournalUnavailable, match="refuses writes"):
            bus.execute("open_account", {"id": 2, "name": "b"})
        for name, arguments in (("open_account", {"id": 2, "name": "b"}), ("no_such_action", {})):
            with pytest.raises(
                JournalUnavailable, match="standby server, which refuses writes; preview it on the primary"
            ):
                bus.runner().preview(name, arguments)
    server.drop(empty)


def test_rows_that_logical_replication_applies_are_recorded_as_bypasses(logical: Server) -> None:
    """On a subscriber of business tables whose journal is its own: triggers by statement would not be fired."""
    publisher, subscriber = logical.database(), logical.database()
    for url in (publisher, subscriber):
        now(url, "CREATE TABLE things (id int PRIMARY KEY, v text)")
    bus = Bus(make_application(), subscriber)
    bus.journal.create()
    wanted = [TableWanted("things")]
    with bus.engine.begin() as connection:
        install(bus.backend, connection, wanted)
    now(publisher, "CREATE PUBLICATION things FOR TABLE things")
    slot = f"slot_{uuid4().hex[:8]}"
    now(publisher, f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    where = f"host={publisher.query['host']} user=postgres dbname={publisher.database}"
    how = f"create_slot = false, copy_data = false, slot_name = '{slot}', enabled = false"
    now(subscriber, f"CREATE SUBSCRIPTION theirs CONNECTION '{where}' PUBLICATION things WITH ({how})")
    with bus.engine.begin() as connection:
        assert any("not by row" in each for each in status(bus.backend, connection, wanted)[0].problems)
        install(bus.backend, connection, wanted)
        assert status(bus.backend, connection, wanted)[0].is_whole
    now(subscriber, "ALTER SUBSCRIPTION theirs ENABLE")
    now(publisher, "INSERT INTO things VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    now(publisher, "UPDATE things SET id = 4, v = 'z' WHERE id = 3; DELETE FROM things WHERE id = 1")
    deadline = time.monotonic() + 60
    while query(subscriber, "SELECT * FROM things ORDER BY id") != [(2, "b"), (4, "z")]:
        assert time.monotonic() < deadline, "the rows did not arrive"
        time.sleep(0.02)
    now(publisher, "TRUNCATE things")
    while query(subscriber, "SELECT * FROM things"):
        assert time.monotonic() < deadline, "the TRUNCATE did not arrive"
        time.sleep(0.02)
    [found] = bus.history.diff(0, table="things").basis.tables
    assert found.gaps == ()
    assert bus.history.state("things").tables["public.things"] == []
    changes = [each for key in (1, 2, 3, 4) for each in bus.history.rows("things", key).changes]
    assert [each.operation for each in changes] == [
        "insert",
        "delete",
        "insert",
        "delete",
        "insert",
        "delete",
        "insert",
        "delete",
    ]
    assert all(each.who.bypass and each.who.bypass["replica"] is True for each in changes)
    bus.close()
    now(subscriber, "ALTER SUBSCRIPTION theirs DISABLE")
    now(subscriber, "ALTER SUBSCRIPTION theirs SET (slot_name = NONE)")
    now(subscriber, "DROP SUBSCRIPTION theirs")
    while query(publisher, "SELECT 1 FROM pg_replication_slots WHERE active"):
        assert time.monotonic() < deadline, "a slot is still in use"
        time.sleep(0.02)
    query(publisher, f"SELECT pg_drop_replication_slot('{slot}')")
    logical.drop(subscriber)
    logical.drop(publisher)
