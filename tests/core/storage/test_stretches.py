"""What is read for those who follow the journal: all of it, in order, at a cost that no statistics decide."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, insert

from actionbus import Bus, JournalFilter
from actionbus.core.storage import stretches
from actionbus.core.storage.stretches import Stretch
from actionbus.core.storage.table import journal_table
from tests.conftest import BusFactory
from tests.core.storage.plans import plan_of, rows_read

OUTCOMES = 2_000
KINDS = frozenset({"outcome"})
WANTS: dict[str, JournalFilter] = {
    "several": JournalFilter(action=frozenset({"common", "rare", "nowhere"}), kind=KINDS),
    "a rare one": JournalFilter(action=frozenset({"rare", "nowhere"}), kind=KINDS),
    "more than are looked up": JournalFilter(action=frozenset({"common", *map(str, range(40))}), kind=KINDS),
    "any outcome": JournalFilter(kind=KINDS),
    "everything": JournalFilter(),
    "what asks more": JournalFilter(action=frozenset({"common", "rare"}), kind=KINDS, actor="ann"),
}


@pytest.fixture
def bus(make_bus: BusFactory) -> Bus:
    """A journal that was filled a moment ago, of which the database knows nothing yet."""
    bus = make_bus()
    rows = []
    for number in range(OUTCOMES):
        own = {
            "action_id": uuid4(),
            "action": "rare" if number % 100 == 0 else "common",
            "actor": "bob" if number % 3 else "ann",
            "correlation_id": str(number),
            "format": 1,
        }
        rows += [own | {"kind": "submitted", "status": None}, own | {"kind": "outcome", "status": "succeeded"}]
    with bus.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE journal SET (autovacuum_enabled = false)")
        connection.execute(insert(journal_table()), rows)
    return bus


def to_the_end(bus: Bus, where: JournalFilter, limit: int, room: int) -> list[Stretch]:
    """All stretches of a journal."""
    found, start, last = list[Stretch](), 0, bus.journal.settled(wait=True)
    while start < last:
        found.append(bus.journal.stretch(start, last, where, limit=limit, room=room))
        assert start < found[-1].end <= last
        start = found[-1].end
    return found


@pytest.mark.parametrize("name", WANTS)
def test_stretches_are_a_plain_read_whose_cost_is_what_it_gives(bus: Bus, name: str) -> None:
    """A page of 50 looks at some of them more than once, merged; never at all that is left, of which there are 40."""
    where = WANTS[name]
    plain = [record.position for record in bus.journal.read(where=where)]
    sent: list[Any] = []
    event.listen(bus.backend.gateway, "before_cursor_execute", lambda *given: sent.append((given[2], given[3])))
    found = to_the_end(bus, where, limit=50, room=10_000_000)
    assert [row[0] for stretch in found for row in stretch.rows] == plain
    assert all(len(stretch.rows) <= 50 for stretch in found)
    read = [each for each in sent if "LIMIT" in each[0] and "arguments" in each[0]]
    if bus.journal.dialect == "postgresql":
        assert sum(rows_read(bus, *each) for each in read) < 8 * (2 * OUTCOMES + 50)
    else:
        assert not any("TEMP B-TREE" in plan_of(bus, *each) for each in read)


@pytest.mark.parametrize("letter", ["x", "random"])
def test_no_row_is_fetched_for_which_there_is_no_room(bus: Bus, letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After thousands of small ones the first of a megabyte come unforeseen, compressed by the database or not."""
    text = "x" * 1_000_000 if letter == "x" else "".join(uuid4().hex for _ in range(31_250))
    own = {"kind": "outcome", "status": "succeeded", "action": "common", "correlation_id": "c", "format": 1}
    with bus.engine.begin() as connection:
        for _ in range(12):
            values: dict[str, Any] = own | {"action_id": uuid4(), "arguments": {"text": text}}
            connection.execute(insert(journal_table()), values)
    fetched: list[int] = []
    read = stretches.StretchReader._read

    def counted(*given: Any) -> stretches.Page:
        page = read(*given)
        fetched.append(sum(len(row[14] or "") for row in page.rows))
        return page

    monkeypatch.setattr(stretches.StretchReader, "_read", counted)
    found = to_the_end(bus, WANTS["several"], limit=5_000, room=3_000_000)
    assert max(fetched) < 4_100_000
    assert [row[0] for stretch in found for row in stretch.rows] == [
        record.position for record in bus.journal.read(where=WANTS["several"])
    ]
