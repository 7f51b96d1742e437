"""After the database's server was away, pooled connections are stale; a read gets a new one and answers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from actionbus import Bus
from tests.conftest import prepared
from tests.core.storage.past_the_gateway import now, open_hole
from tests.servers import Server
from tests.shop.app import make_application

ENDED = "pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
pytestmark = pytest.mark.server
READS: dict[str, Callable[[Bus, UUID], Any]] = {
    "read": lambda bus, _: len(list(bus.journal.read())),
    "tail": lambda bus, _: len(bus.journal.tail(5)),
    "settled": lambda bus, _: bus.journal.settled(),
    "settled, waiting": lambda bus, _: bus.journal.settled(wait=True),
    "waiting_for": lambda bus, _: bus.journal.waiting_for(),
    "last": lambda bus, _: bus.journal.last(),
    "last_before": lambda bus, _: bus.journal.last_before(datetime.now(UTC) + timedelta(days=1)),
    "count": lambda bus, _: bus.journal.count(kind=None),
    "get": lambda bus, action_id: bus.journal.get(action_id),
    "at": lambda bus, _: bus.journal.at(1),
    "history": lambda bus, action_id: len(bus.journal.history(action_id)),
    "submitted": lambda bus, action_id: bus.journal.submitted(action_id),
    "outcome": lambda bus, action_id: bus.journal.outcome(action_id),
    "by_key": lambda bus, _: bus.journal.by_key("open_account", None, "k"),
    "unfinished": lambda bus, _: bus.journal.unfinished(datetime.now(UTC)),
    "versions": lambda bus, _: bus.journal.versions(),
    "stats": lambda bus, _: bus.journal.stats(),
    "identity": lambda bus, _: bus.journal.identity(),
    "exists": lambda bus, _: bus.journal.exists(),
    "runs.get": lambda bus, action_id: bus.runs.get(action_id),
    "runs.all": lambda bus, _: bus.runs.all(),
    "runs.counts": lambda bus, _: bus.runs.counts(),
    "runs.next_in": lambda bus, _: bus.runs.next_in(),
    "recover": lambda bus, _: bus.recover(),
}


@pytest.fixture
def filled(postgres_url: URL) -> Iterator[tuple[Bus, UUID]]:
    """A journal with an action in it, and a pool of some connections."""
    prepared(postgres_url)
    engine = create_engine(postgres_url, pool_size=3)
    with Bus(make_application(), engine) as bus:
        outcome = bus.execute("open_account", {"id": 1, "name": "a"}, idempotency_key="k")
        yield bus, outcome.action_id
    engine.dispose()


def made_stale(bus: Bus) -> None:
    """Fill the pool, and let the server end all of its connections."""
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(bus.backend.connection()).execute(text("SELECT 1"))
    terminate(bus.engine.url)


def terminate(url: URL) -> None:
    now(url, f"SELECT {ENDED} WHERE datname = current_database() AND pid <> pg_backend_pid()")


@pytest.mark.parametrize("read", READS)
def test_the_first_read_after_the_server_was_away_answers(filled: tuple[Bus, UUID], read: str) -> None:
    bus, action_id = filled
    expected = READS[read](bus, action_id)
    made_stale(bus)
    for _ in range(4):
        assert READS[read](bus, action_id) == expected


def test_in_the_middle_of_a_long_read_too(postgres_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actionbus.core.storage.reader.BATCH", 2)
    prepared(postgres_url)
    with Bus(make_application(), postgres_url) as bus:
        for number in range(5):
            bus.execute("open_account", {"id": number, "name": f"{number}"})
        found = []
        for record in bus.journal.read():
            found.append(record.position)
            if len(found) % 2:
                terminate(postgres_url)
        assert found == list(range(1, 11))


def test_while_a_reader_waits_at_a_hole(postgres_url: URL) -> None:
    prepared(postgres_url)
    with Bus(make_application(), postgres_url) as bus:
        holder = open_hole(postgres_url)
        found: list[str] = []
        reader = threading.Thread(target=lambda: found.extend(record.action for record in bus.journal.read()))
        reader.start()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE strpos(query, 'pg_locks') > 0 AND pid <> pg_backend_pid()"
        engine = create_engine(postgres_url)
        with engine.connect() as connection:
            while not connection.execute(text(waiting)).all():
                connection.rollback()
        engine.dispose()
        terminate(postgres_url)  # the holder's backend too, so that nothing is left to wait for
        reader.join(30)
        assert found == ["early"]
        holder.close()


def test_after_a_crash_of_the_server() -> None:
    own = Server("# its own, since it is stopped\n")
    try:
        url = own.database()
        prepared(url)
        with Bus(make_application(), url) as bus:
            action_id = bus.execute("open_account", {"id": 1, "name": "a"}).action_id
            own.kill(signal.SIGQUIT)
            own.start()
            assert bus.journal.get(action_id)
            assert len(list(bus.journal.read())) == 2
    finally:
        own.close()


def test_a_server_that_stays_away_is_told_as_it_is(postgres_url: URL) -> None:
    """Once more is enough: a read does not wait for a server that may never come back."""
    prepared(postgres_url)
    with Bus(make_application(), postgres_url) as bus:
        bus.journal.last()
        outside = postgres_url.set(database="postgres")
        now(outside, f"ALTER DATABASE {postgres_url.database} ALLOW_CONNECTIONS false")
        now(outside, f"SELECT {ENDED} WHERE datname = '{postgres_url.database}'")
        with pytest.raises(DBAPIError):
            bus.journal.get(uuid4())
        now(outside, f"ALTER DATABASE {postgres_url.database} ALLOW_CONNECTIONS true")
        assert bus.journal.last() == 0
