"""What is kept beside the journal tells the same as the whole of it, whoever keeps it, and spares reading it."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event, text

from actionbus import Bus
from actionbus.core.storage import totals, unfinished
from tests.conftest import BusFactory, query
from tests.helpers import abandon, opened

FEW = 5


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks are moved after a few positions."""
    monkeypatch.setattr(totals, "MANY", FEW)
    monkeypatch.setattr(unfinished, "MANY", FEW)


def work(bus: Bus, times: int) -> None:
    for number in range(times):
        with suppress(Exception):
            bus.execute("deposit", {"id": 1 if number % 3 else 9}, actor="bob")


def counted(bus: Bus) -> Counter[tuple[str, str | None]]:
    """By hand."""
    return Counter((each.action, each.status) for each in bus.journal.read(kind="outcome"))


def told(bus: Bus) -> dict[tuple[str, str], int]:
    return {(each["action"], each["status"]): each["count"] for each in bus.journal.stats()["actions"]}


def mark(bus: Bus, name: str) -> int:
    with bus.engine.connect() as connection:
        found = connection.execute(text("SELECT position FROM actionbus_marks WHERE name = :name"), {"name": name})
        return int(found.scalar_one())


def statements(bus: Bus) -> list[Any]:
    """What is sent from now on, with its parameters."""
    sent: list[Any] = []
    event.listen(bus.backend.gateway, "before_cursor_execute", lambda *given: sent.append((given[2], given[3])))
    return sent


def test_counts_are_those_of_the_whole_journal(make_bus: BusFactory) -> None:
    bus = opened(make_bus(), 1)
    for _ in range(4):
        work(bus, 7)
        assert told(bus) == counted(bus)
        assert mark(bus, "totals") >= bus.journal.settled() - FEW
    stats = bus.journal.stats()
    assert stats["records"] == len(list(bus.journal.read()))
    assert stats["last_position"] == bus.journal.last()
    mean = next(each["mean_ms"] for each in stats["actions"] if each["status"] == "succeeded")
    assert mean > 0


def test_what_was_counted_is_not_counted_again(make_bus: BusFactory) -> None:
    bus = opened(make_bus(), 1)
    work(bus, 7)
    told(bus)
    sent = statements(bus)
    told(bus)
    (grouped,) = [given for sql, given in sent if "GROUP BY" in sql]
    numbers = [each for each in (grouped.values() if isinstance(grouped, dict) else grouped) if isinstance(each, int)]
    low = sorted(numbers)[-2]
    assert bus.journal.settled() - low <= FEW


def test_several_who_count_at_once_count_right(make_bus: BusFactory) -> None:
    buses = [opened(make_bus(), 1), *(make_bus() for _ in range(3))]
    stop, wrong = threading.Event(), list[Any]()

    def count(bus: Bus) -> None:
        while not stop.is_set():
            found = bus.journal.stats()
            positions = bus.journal.count(upto=found["last_position"], kind=None)
            if found["records"] != positions:
                wrong.append((found["records"], positions))

    threads = [threading.Thread(target=count, args=[bus]) for bus in buses[1:]]
    for each in threads:
        each.start()
    work(buses[0], 40)
    stop.set()
    for each in threads:
        each.join()
    assert wrong == []
    assert told(buses[0]) == counted(buses[0])


def test_what_is_unfinished_is_found_again_beyond_a_mark(make_bus: BusFactory) -> None:
    bus = opened(make_bus(), 1)
    first = abandon(bus)
    work(bus, 5)
    assert [each.action_id for each in bus.journal.unfinished()] == [first]
    assert mark(bus, "unfinished") > FEW
    second = abandon(bus)
    for _ in range(2):
        assert [each.action_id for each in bus.journal.unfinished()] == [first, second]
        work(bus, 5)
    assert set(bus.recover().interrupted) == {first, second}
    assert bus.journal.unfinished() == []
    work(bus, 5)
    bus.journal.unfinished()
    with bus.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM actionbus_unfinished")).scalar_one() == 0


def test_history_is_not_read_again_for_what_is_unfinished(make_bus: BusFactory) -> None:
    bus = opened(make_bus(), 1)
    work(bus, 7)
    bus.journal.unfinished()
    end = mark(bus, "unfinished")
    sent = statements(bus)
    bus.journal.unfinished()
    assert [given for sql, given in sent if "actionbus_unfinished" in sql]
    assert all(
        end in (given.values() if isinstance(given, dict) else given)
        for sql, given in sent
        if "actionbus_unfinished" in sql
    )


def test_who_may_only_read_gets_the_same_and_changes_nothing(make_bus: BusFactory) -> None:
    bus = opened(make_bus(), 1)
    first = abandon(bus)
    work(bus, 7)
    if bus.journal.dialect == "postgresql":
        query(bus.engine.url, f'ALTER DATABASE "{bus.engine.url.database}" SET default_transaction_read_only = on')
        bus.engine.dispose()
    else:
        event.listen(bus.engine, "checkout", lambda dbapi, *_: dbapi.cursor().execute("PRAGMA query_only = on"))
    assert told(bus) == counted(bus)
    assert [each.action_id for each in bus.journal.unfinished()] == [first]
    assert (mark(bus, "totals"), mark(bus, "unfinished")) == (0, 0)
