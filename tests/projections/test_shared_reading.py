"""Many follow the journal and it is read once; each gets what he would have read by himself, whatever the others do."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from actionbus import Bus, Journal, Record
from actionbus.core.storage.stretches import Stretch
from actionbus.projections import shared_reading
from actionbus.projections.shared_reading import Follower, SharedReading, WantedRecords
from tests.conftest import TORTURE, BusFactory
from tests.helpers import opened

WANTS = [
    WantedRecords(),
    WantedRecords(None, None),
    WantedRecords(frozenset({"open_account"})),
    WantedRecords(frozenset({"deposit", "nobody"}), frozenset({"submitted"})),
    WantedRecords(frozenset({"nobody"})),
]


@pytest.fixture
def written(make_bus: BusFactory) -> Bus:
    """A bus with a hundred records of two actions."""
    bus = opened(make_bus(), *range(1, 21))
    bus.runner("ann").execute_many(
        [("deposit", {"id": 1, "amount": number, "note": "x" * number}) for number in range(30)]
    )
    return bus


def wanted_of(bus: Bus, wanted: WantedRecords, after: int = 0) -> list[int]:
    """The positions of what somebody wants, by a plain read."""
    return [
        record.position
        for record in bus.journal.read(after)
        if (wanted.actions is None or record.action in wanted.actions)
        and (wanted.kinds is None or record.kind in wanted.kinds)
    ]


class Reads:
    """Counts the reads of the database, and can be made to wait or to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        self.failing = 0
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        read = Journal.stretch

        def counted(journal: Journal, *given: Any, **named: Any) -> Stretch:
            if not self.open.is_set():
                self.waiting.set()
                assert self.open.wait(60)
            if self.failing:
                self.failing -= 1
                raise ConnectionError("lost")
            stretch = read(journal, *given, **named)
            self.rows += len(stretch.rows)
            return stretch

        monkeypatch.setattr(Journal, "stretch", counted)


def to_the_end(follower: Follower, last: int, start: int = 0, size: int = 7) -> list[Record]:
    """All that a follower is given."""
    found: list[Record] = []
    while start < last:
        batch = follower.read(start, size)
        assert batch.start == start
        assert batch.end > start
        assert all(start < record.position <= batch.end for record in batch.records)
        assert len(batch.records) <= size
        found += batch.records
        start = batch.end
    return found


@pytest.mark.parametrize("seed", range(60 if TORTURE else 6))
def test_each_gets_what_he_would_have_read_by_himself(written: Bus, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Followers of all kinds, at all places and paces, in an order by chance, with little room and small reads."""
    chance = random.Random(seed)
    monkeypatch.setattr(shared_reading, "_ROWS", chance.choice([1, 5, 30]))
    monkeypatch.setattr(shared_reading, "_NEAR", chance.choice([0, 10, 1_000]))
    monkeypatch.setattr(shared_reading, "BATCH_ROOM", chance.choice([1, 5_000, 10**6]))
    reading = SharedReading(written.journal, room=chance.choice([1, 20_000, 10**6]))
    last = written.journal.settled(wait=True)
    places = {reading.follower(want): chance.choice([0, 0, chance.randrange(last)]) for want in WANTS * 2}
    expected = {follower: wanted_of(written, follower.wanted, start) for follower, start in places.items()}
    found: dict[Follower, list[int]] = {follower: [] for follower in places}
    while behind := [follower for follower, place in places.items() if place < last]:
        follower = chance.choice(behind)
        batch = follower.read(places[follower], chance.choice([1, 3, 50]))
        assert batch.end > places[follower]
        found[follower] += [record.position for record in batch.records]
        places[follower] = batch.end
        if chance.random() < 0.05:
            follower.forget()
    assert found == expected


def test_what_was_kept_twice_is_given_once(written: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two who began at different places leave stretches that overlap; a batch may be made of both."""
    monkeypatch.setattr(shared_reading, "_ROWS", 20)
    reading = SharedReading(written.journal)
    everything = WantedRecords(None, None)
    one, other = (reading.follower(everything) for _ in range(2))
    one.position = other.position = 10
    for place in (10, 0):
        reading._together(place)
    assert [(each.start, each.end) for each in reading._kept] == [(0, 20), (10, 30)]
    for start in (0, 3, 12):
        batch = one.read(start, 100)
        assert [record.position for record in batch.records] == list(range(start + 1, batch.end + 1))
        assert batch.end == 30


def test_ten_at_their_own_pace_read_the_journal_once(written: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    monkeypatch.setattr(shared_reading, "_ROWS", 10)
    reading = SharedReading(written.journal)
    last = written.journal.settled(wait=True)
    followers = [reading.follower(WANTS[number % 2]) for number in range(10)]
    for follower in followers:
        follower.position = 0
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda follower: to_the_end(follower, last), followers))
    for follower, records in zip(followers, found, strict=True):
        assert [record.position for record in records] == wanted_of(written, follower.wanted)
    assert reads.rows == len(wanted_of(written, WantedRecords(None, None)))


def test_one_alone_reads_only_what_he_wants(written: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    reading = SharedReading(written.journal)
    last = written.journal.settled(wait=True)
    far_ahead = reading.follower(WantedRecords(None, None))
    to_the_end(far_ahead, last, last - 2)
    reads.rows = 0
    rare = WantedRecords(frozenset({"deposit"}))
    assert len(to_the_end(reading.follower(rare), last, size=50)) == reads.rows == len(wanted_of(written, rare))


def test_who_stands_still_holds_nobody_up(written: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has had a batch and never comes back; one whose own read of the database does not return."""
    reads = Reads(monkeypatch)
    monkeypatch.setattr(shared_reading, "_ROWS", 10)
    reading = SharedReading(written.journal, room=15_000)
    last = written.journal.settled(wait=True)
    slow, hanging, quick = (reading.follower(WantedRecords(None, None)) for _ in range(3))
    slow.read(0, 5)
    reads.open.clear()
    hangs = threading.Thread(target=hanging.read, args=(20, 5))
    hangs.start()
    assert reads.waiting.wait(60)
    reads.open.set()
    assert len(to_the_end(quick, last)) == len(wanted_of(written, WantedRecords(None, None)))
    hangs.join()
    assert len(to_the_end(slow, last, 5)) == len(wanted_of(written, WantedRecords(None, None), 5))


def test_what_is_kept_is_bounded_by_its_bytes(written: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reading, "_ROWS", 4)
    reading = SharedReading(written.journal, room=30_000)
    last, start = written.journal.settled(wait=True), 0
    ahead, behind = reading.follower(WantedRecords(None, None)), reading.follower(WantedRecords(None, None))
    behind.read(0, 1)
    while start < last:
        start = ahead.read(start, 4).end
        assert sum(stretch.size for stretch in reading._kept) == reading._size <= 30_000
    assert reading._kept


def test_a_read_is_bounded_by_bytes(make_bus: BusFactory) -> None:
    """Records of a kilobyte, and some of a megabyte: as many as fit, at least one, and nothing is lost between."""
    bus = opened(make_bus(), 1)
    notes = ["x" * (1_000_000 if number % 7 == 6 else 1_000) for number in range(28)]
    bus.runner("ann").execute_many([("deposit", {"id": 1, "amount": 1, "note": note}) for note in notes])
    last, start, found = bus.journal.settled(wait=True), 0, []
    while start < last:
        stretch = bus.journal.stretch(start, last, limit=500, room=100_000)
        assert stretch.size < 100_000 + 1_010_000
        found += [record.position for record in bus.journal.records_in(stretch.rows)]
        start = stretch.end
    assert found == wanted_of(bus, WantedRecords(None, None))


def test_what_one_does_to_a_record_reaches_no_other(written: Bus) -> None:
    reading = SharedReading(written.journal)
    one, other = reading.follower(WantedRecords()), reading.follower(WantedRecords())
    other.position = 0
    before = [record.values() for record in written.journal.read(kind="outcome", limit=5)]
    for record in one.read(0, 5).records:
        record.arguments.clear()
        record.arguments["name"] = "forged"
    assert [record.values() for record in other.read(0, 5).records] == before


def test_after_an_error_all_is_read_anew(written: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    reading = SharedReading(written.journal)
    last = written.journal.settled(wait=True)
    one, other = reading.follower(WantedRecords()), reading.follower(WantedRecords())
    one.position = other.position = 0
    one.read(0, 5)
    reads.open.clear()
    reads.failing = 1
    end = reading._kept[-1].end
    opened(written, 50)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(follower.read, end, 5) for follower in (one, other)]
        assert reads.waiting.wait(60)
        reads.open.set()
        errors = [future.exception() for future in asked]
    assert any(isinstance(error, ConnectionError) for error in errors)
    assert not any(stretch.start < end for stretch in reading._kept)
    last = written.journal.settled(wait=True)
    assert [record.position for record in to_the_end(one, last)] == wanted_of(written, WantedRecords())


def test_a_new_follower_is_given_what_nobody_wanted_before(written: Bus) -> None:
    reading = SharedReading(written.journal)
    last = written.journal.settled(wait=True)
    few, few_too = (reading.follower(WantedRecords(frozenset({"open_account"}))) for _ in range(2))
    few_too.position = 0
    few.read(0, 50)
    late = reading.follower(WantedRecords(None, None))
    assert [record.position for record in to_the_end(late, last)] == wanted_of(written, WantedRecords(None, None))
