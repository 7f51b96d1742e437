"""What lies before a position is archived: what comes after it is told as before, and what lies before says where it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, HistoryArchived, InvalidArguments
from actionbus.core.history.install import install
from actionbus.core.history.wanted import by_name
from actionbus.replay.archives.attach import attach
from tests.conftest import query
from tests.replay.archives.history import KEYED, KEYLESS, archived, blamed, live, nobody, past_the_gateway, told
from tests.shop.app import make_application


@pytest.fixture
def bus(url: URL) -> Bus:
    """A shop whose rows are recorded, with a table of two keys and one of none."""
    bus = Bus(make_application(), url)
    bus.create()
    past_the_gateway(bus, KEYED)
    past_the_gateway(bus, KEYLESS)
    with bus.engine.begin() as connection:
        install(bus.backend, connection, [by_name(connection, each) for each in ("pairs", "loose")])
    yield bus
    bus.close()


def test_states_after_the_cut_are_what_they_were(bus: Bus, tmp_path: Path) -> None:
    live(bus, 60)
    upto = bus.journal.settled()
    live(bus, 40, seed=2)
    end = bus.journal.settled()
    before = {position: told(bus, position) for position in range(upto, end + 1)}
    done = archived(bus, upto, tmp_path / "archive")
    assert done.upto <= upto
    assert {position: told(bus, position) for position in before} == before
    with pytest.raises(HistoryArchived, match=str(tmp_path / "archive")):
        bus.history.state(None, done.upto - 1)
    left = query(bus.engine.url, f"SELECT kind FROM journal WHERE position <= {done.upto}")
    assert left == []
    live(bus, 30, seed=3)
    again = archived(bus, end, tmp_path / "second")
    assert told(bus, again.upto) == (before.get(again.upto) or told(bus, again.upto))
    live(bus, 10, seed=4)


def test_attached_again_history_is_what_it_was(bus: Bus, tmp_path: Path) -> None:
    live(bus, 40)
    middle = bus.journal.settled()
    live(bus, 40, seed=2)
    end = bus.journal.settled()
    before = {position: told(bus, position) for position in range(1, end + 1)}
    whole = _tables(bus)
    blame = blamed(bus)
    archived(bus, middle, tmp_path / "one")
    archived(bus, end, tmp_path / "two")
    with pytest.raises(InvalidArguments, match=str(tmp_path / "two")):
        attach(bus, tmp_path / "one", operator=True, watch=nobody)
    for folder in ("two", "one"):
        attach(bus, tmp_path / folder, operator=True, watch=nobody)
    assert {position: told(bus, position) for position in before} == before
    assert blamed(bus) == blame
    assert _tables(bus) == whole
    with pytest.raises(InvalidArguments, match="already"):
        attach(bus, tmp_path / "one", operator=True, watch=nobody)


def _tables(bus: Bus) -> list[object]:
    """All that is recorded, but of what was done to archive it."""
    records = "SELECT * FROM journal WHERE action NOT IN ('archive_history', 'attach_archive') ORDER BY position"
    return [
        query(bus.engine.url, sql)
        for sql in (
            records.replace("*", "position, action_id, kind, xid, seen, images_upto"),
            "SELECT * FROM actionbus_images ORDER BY image",
        )
    ]
