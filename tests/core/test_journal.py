"""The journal is read by every filter, batch by batch and in plain SQL; a row that is no record is named."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError

from actionbus import Bus, ConfigurationError, InvalidArguments, JournalUnavailable
from actionbus.core.storage.table import COLUMNS, journal_table
from tests.helpers import opened


def test_the_table_has_every_public_column(bus: Bus) -> None:
    with bus.engine.connect() as connection:
        found = tuple(connection.execute(text("SELECT * FROM journal")).keys())
        assert found == (*COLUMNS, "images_after", "images_upto")


def test_filters(bus: Bus) -> None:
    bus.create()  # and with it what records rows
    opened(bus, 1, 2)
    bus.execute("deposit", {"id": 1, "amount": 9}, actor="bob", correlation_id="corr")
    outcome = bus.execute("transfer", {"source": 1, "target": 2, "amount": 4}, actor="bob")
    with pytest.raises(InvalidArguments):
        bus.execute("deposit", {"id": "x"}, actor="bob")
    read = bus.journal.read

    def actions(**filters: Any) -> list[str]:
        return [record.action for record in read(kind="outcome", **filters)]

    assert actions(actor="bob") == ["deposit", "withdraw", "deposit", "transfer", "deposit"]
    assert actions(action="open_account") == ["open_account"] * 2
    assert actions(status="rejected") == ["deposit"]
    assert actions(correlation_id="corr") == ["deposit"]
    assert actions(cause_id=outcome.action_id) == ["withdraw", "deposit"]
    assert actions(touching=("accounts", 2)) == ["open_account", "deposit"]
    assert actions(touching=("accounts", "1")) == ["open_account", "deposit", "withdraw"]
    assert len(actions(touching=("entries",))) == 3
    assert actions(touching=("ent",)) == []
    assert actions(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert len(actions(since=datetime.now(UTC) - timedelta(hours=1), until=datetime.now(UTC))) == 7
    assert [r.position for r in read(after=3, limit=2)] == [4, 5]
    assert actions(touching=("accounts", 2), actor="bob") == ["deposit"]
    assert actions(touching=("accounts", "no number")) == []
    assert [r.action for r in read(touching=("accounts",), limit=3)] == ["open_account", "open_account", "deposit"]
    whole = [r for r in read() if r.kind != "bypass"]  # on PostgreSQL the installation has a record
    assert len(whole) == 14
    assert bus.journal.tail(2) == whole[-2:]


def test_a_journal_of_many_batches_is_read_whole(bus: Bus) -> None:
    _fill(bus, 2_500)
    positions = [record.position for record in bus.journal.read()]
    assert positions == list(range(1, 2_501))
    assert [r.position for r in bus.journal.read(after=1_000, limit=1_200)] == positions[1_000:2_200]
    assert len(list(bus.journal.read(action="x0"))) == 250


def _fill(bus: Bus, count: int) -> None:
    rows = [
        {
            "action_id": uuid4(),
            "kind": "submitted",
            "action": f"x{n % 10}",
            "correlation_id": "c",
            "recorded_at": datetime.now(UTC),
            "format": 1,
        }
        for n in range(count)
    ]
    with bus.engine.begin() as connection:
        connection.execute(insert(journal_table()), rows)


def test_stats(bus: Bus) -> None:
    opened(bus, 1, 2)
    told = bus.journal.stats()
    assert (told["records"], told["last_position"]) == (4, 4)
    assert told["actions"][0]["count"] == 2


def test_a_database_without_journal_is_told_apart(url: URL) -> None:
    from tests.shop.app import make_application

    with Bus(make_application(), url) as bus, pytest.raises(ConfigurationError, match="db upgrade"):
        bus.journal.require()


UNREADABLE = {
    "nested too deeply": "[" * 5_000 + "]" * 5_000,
    "a number with more digits than Python reads": "1" * 5_000,
    "broken": "{nope",
}


@pytest.mark.parametrize("payload", UNREADABLE)
def test_a_row_that_is_no_record_is_named_by_its_position(bus: Bus, payload: str) -> None:
    opened(bus, 1)
    insert = text(
        "INSERT INTO journal (action_id, kind, action, correlation_id, arguments) "
        f"VALUES ('{uuid4().hex}', 'submitted', 'x', 'x', :arguments)"
    )
    with suppress(DataError), bus.engine.begin() as connection:  # PostgreSQL refuses what is no JSON
        connection.execute(insert, {"arguments": UNREADABLE[payload]})
    if bus.journal.last() == 2:
        return
    opened(bus, 2)
    for read in (lambda: list(bus.journal.read()), lambda: bus.journal.tail(9), lambda: bus.journal.at(3)):
        with pytest.raises(JournalUnavailable, match="position 3 cannot be read"):
            read()
    assert len(list(bus.journal.read(upto=2))) == len(list(bus.journal.read(after=3))) == 2
