"""What nested actions wrote was committed with their outer one, whatever records others appended in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.replay import Replayer, Step
from tests.conftest import prepared
from tests.replay.conftest import fill
from tests.shop.app import make_application
from tests.waiting import eventually

_WAITS = """
    CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;
    CREATE TRIGGER wait_for_test AFTER INSERT ON journal
        FOR EACH ROW WHEN (NEW.kind = 'outcome' AND NEW.action = 'withdraw') EXECUTE FUNCTION wait_for_test()
"""


@pytest.fixture
def interleaved(postgres_url: URL) -> Iterator[Bus]:
    """A transfer of which the record of the withdrawal lies before a deposit that it waits for, the others after it."""
    prepared(postgres_url, recorded=True)
    engine = create_engine(postgres_url)
    with Bus(make_application(), postgres_url) as bus:
        fill(bus)
        with engine.begin() as connection:
            connection.execute(text(_WAITS))
        with engine.connect() as holding:
            holding.execute(text("SELECT pg_advisory_lock(4711)"))
            arguments = {"source": 2, "target": 1, "amount": 3}
            other = threading.Thread(target=bus.execute, args=("transfer", arguments))
            other.start()
            eventually(lambda: _is_awaited(holding), "the record of the withdrawal is appended, and waits")
            bus.execute("deposit", {"id": 3, "amount": 4}, actor="ann")
            holding.execute(text("SELECT pg_advisory_unlock(4711)"))
            other.join()
        engine.dispose()
        yield bus


def _is_awaited(connection: Any) -> bool:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
    return bool(connection.execute(text(waiting)).scalar_one())


def verified(bus: Bus, sandbox: URL, after: int = 0) -> list[Step]:
    with Replayer(bus.journal, make_application(), sandbox) as replayer:
        return list(replayer.verify(after))


def test_records_of_others_between_those_of_one_transaction(interleaved: Bus, empty_postgres_url: URL) -> None:
    told = [record.action for record in interleaved.journal.tail(4, kind="outcome")]
    assert told == ["withdraw", "deposit", "deposit", "transfer"]
    steps = verified(interleaved, empty_postgres_url)
    assert [(step, step.differences) for step in steps if step.verdict != "same"] == []


def test_a_slice_that_begins_between_them(interleaved: Bus, empty_postgres_url: URL) -> None:
    withdrawal, *_ = interleaved.journal.tail(4, kind="outcome")
    steps = verified(interleaved, empty_postgres_url, withdrawal.position)
    assert [(step.record.action, step.verdict, step.differences) for step in steps] == [
        ("deposit", "same", []),
        ("transfer", "same", []),
    ]
