"""A rebuild that is paced reads no faster than it may, over any time, and ends with the same documents."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from actionbus.projections.pacing import Pace
from tests.projections.conftest import MakeWorld, World
from tests.projections.notes.app import Notes, expected_notes


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.longest = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)
        self.now += seconds


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [0.5, 7.0, 1_000.0])
def test_whatever_the_batches_the_rate_holds_between_any_two_moments(rate: float, seed: int) -> None:
    chance, clock = random.Random(seed), Clock()
    pace = Pace(rate, clock, clock.sleep)
    signs: list[float] = []
    seen = [(clock.now, 0)]
    for _ in range(100):
        size = chance.randint(0, pace.batch(5_000))
        clock.now += chance.choice([0.0, size / rate / 2, 5.0])
        pace.take(size, lambda: signs.append(clock.now))
        seen.append((clock.now, seen[-1][1] + size))
    for place, (began, before) in enumerate(seen):
        for ended, after in seen[place + 1 :]:
            assert after - before <= rate * (ended - began) + rate + 1e-6
    assert clock.longest <= 1.0
    assert all(later - earlier <= 60 for earlier, later in pairwise(signs))


def test_without_a_rate_nothing_waits() -> None:
    clock = Clock()
    pace = Pace(None, clock, clock.sleep)
    pace.take(1_000_000)
    assert (clock.now, pace.batch(5_000)) == (100.0, 5_000)


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_that_never_ends_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Pace(rate)


def test_a_paced_rebuild_is_right_and_tells_its_rate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    original = Pace.take
    clock = Clock()

    def take(self: Pace, records: int, *more: object) -> None:
        taken.append(records)
        self._sleep = clock.sleep
        self._now = clock
        original(self, records, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Pace, "take", take)
    for number in range(20):
        world.put(f"n{number}", "text")
    world.catch_up()
    told: dict[str, tuple[int, int]] = {}

    def watch(what: str, done: int, total: int) -> None:
        told[what] = (done, total)

    world.operations.rebuild("notes", rate=3, watch=watch)
    assert max(taken) <= 3
    assert sum(taken) >= 15
    assert clock.now >= 100 + 4
    assert told["building, at most 3 records/s"][1] == 40
    assert world.documents() == expected_notes(world.bus)


def test_what_is_fed_keeps_its_own_pace(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(Notes)
    world.put("a", "text")
    world.catch_up()

    def never(*_: object) -> None:
        raise AssertionError("only a rebuild is paced")

    monkeypatch.setattr(Pace, "take", never)
    monkeypatch.setenv("ACTIONBUS_REBUILD_RATE", "1")
    for number in range(5):
        world.put(f"n{number}", "text")
    world.catch_up()
    assert world.documents() == expected_notes(world.bus)
