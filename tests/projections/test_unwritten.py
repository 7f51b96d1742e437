"""An index that was empty when its holder began is not asked for what it cannot have; for all that it may have, it is."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from actionbus.projections import Projector, StoreUnavailable
from actionbus.projections.store import StoredDocument
from actionbus.projections.unwritten import UnwrittenKeys
from tests.projections.conftest import PAIRS, MakeWorld, World
from tests.projections.notes.app import Notes
from tests.projections.scribbling import in_sql


def test_what_was_written_is_never_taken_for_unwritten() -> None:
    keys = UnwrittenKeys()
    assert keys.left_of([f"n{number}" for number in range(1_000)]) == []
    keys.add(f"n{number}" for number in range(500))
    left = keys.left_of([f"n{number}" for number in range(1_000)])
    assert left[:500] == [f"n{number}" for number in range(500)]
    assert len(left) < 600


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[str]:
    """The keys of documents that the store was asked for."""
    world: World = request.getfixturevalue("world")
    found: list[str] = []
    original = type(world.store).get_many

    def seen(self: Any, index: str, keys: Collection[str]) -> dict[str, StoredDocument]:
        found.extend(keys)
        return original(self, index, keys)

    monkeypatch.setattr(type(world.store), "get_many", seen)
    return found


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(Notes)


@pytest.mark.parametrize("make_world", PAIRS[:1], indirect=True)
def test_an_empty_index_is_asked_for_what_was_written_and_later_for_everything(world: World, asked: list[str]) -> None:
    for note in ("a", "b", "c", "a", "d", "a", "e"):
        world.put(note, f"text {world.bus.journal.last()}")
    Projector(world.bus, world.store, batch=2).catch_up()
    assert asked == ["a", "a"]
    world.put("new")
    world.catch_up()
    assert asked == ["a", "a", "new"]
    assert world.documents() == in_sql(world)


@pytest.mark.parametrize("make_world", PAIRS[:1], indirect=True)
@pytest.mark.parametrize("taken", [False, True])
def test_what_was_sent_without_an_answer_is_asked_for_by_whoever_goes_on(
    world: World, asked: list[str], monkeypatch: pytest.MonkeyPatch, *, taken: bool
) -> None:
    for note in "abcdefgh":
        world.put(note, "text")
    kind = type(world.store)
    original = kind.write_many

    def unanswered(self: Any, index: str, writes: Any) -> Any:
        if taken:
            original(self, index, writes)
        raise StoreUnavailable("no answer")

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        patch.setattr(kind, "write_many", unanswered)
        Projector(world.bus, world.store, batch=3).catch_up()
    asked.clear()
    world.catch_up()
    assert asked == list("abcdefgh")
    assert world.documents() == in_sql(world)
