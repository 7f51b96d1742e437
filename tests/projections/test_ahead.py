"""The next batch is folded while one is on its way to Elasticsearch, and whatever happens there, documents come right."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.core.storage.table import journal_table
from actionbus.projections import ProjectionStopped, Projector, StoreUnavailable, feeder
from actionbus.projections.store import StoredDocument, Write
from tests.projections.conftest import MakeWorld, World
from tests.projections.notes.app import Notes, Shelves, expected_notes
from tests.projections.waiting import eventually

BATCH = 4


class Watched(ElasticsearchStore):
    """Knows which documents were asked for and written, batch by batch."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout=10)
        self.asked: list[set[str]] = []
        self.written: list[set[str]] = []

    def get_many(self, index: str, keys: Collection[str]) -> dict[str, StoredDocument]:
        self.asked.append(set(keys))
        return super().get_many(index, keys)

    def write_many(self, index: str, writes: Sequence[Write]) -> list[Write]:
        self.written.append({write.key for write in writes})
        return super().write_many(index, writes)


class Waiting(Watched):
    """Takes nothing before the next batch was looked up."""

    left = 3
    """How many batches there are behind which another one comes."""

    def write_many(self, index: str, writes: Sequence[Write]) -> list[Write]:
        if self.left:
            self.left -= 1
            eventually(lambda: len(self.asked) == len(self.written) + 2)
        return super().write_many(index, writes)


class SendingTwice(Watched):
    """As a client does whose first request was taken, and its answer lost."""

    def write_many(self, index: str, writes: Sequence[Write]) -> list[Write]:
        super().write_many(index, writes)
        return super().write_many(index, writes)


class Restarting(Watched):
    """Is never the one that it was."""

    def lineage(self, index: str) -> str:
        return f"{super().lineage(index)} {len(self.written)}"


class Losing(Watched):
    """Loses every third request, or its answer."""

    sooner, sent = True, 0

    def write_many(self, index: str, writes: Sequence[Write]) -> list[Write]:
        self.sent += 1
        is_lost = self.sent % 3 == 2
        if is_lost and self.sooner:
            raise StoreUnavailable("no answer")
        there = super().write_many(index, writes)
        if is_lost:
            raise StoreUnavailable("no answer")
        return there


class LosingAnswers(Losing):
    """These were taken."""

    sooner = False


def written(world: World, notes: int) -> None:
    """Notes that are changed and dropped, in one batch and the next."""
    chance = random.Random(notes)
    for number in range(40):
        note = f"n{chance.randrange(notes)}"
        if chance.random() < 0.2:
            world.drop(note)
        else:
            world.put(note, f"text {number}", number, *chance.sample("abc", 2))


def expected_shelves(world: World) -> dict[str, Any]:
    """By a fold that shares no code with ours."""
    found: dict[str, set[str]] = {}
    for record in world.bus.journal.read(kind="outcome", action="put_note"):
        for name in record.arguments["shelves"]:
            found.setdefault(f"shelf {name}", set()).add(record.arguments["note"])
    return {key: {"notes": sorted(notes)} for key, notes in found.items()}


def fed(world: World, store: ElasticsearchStore, names: list[str] | None = None) -> None:
    """Until all is absorbed, through whatever the store does."""
    for _ in range(100):
        try:
            Projector(world.bus, store, names, batch=BATCH).catch_up()
            return
        except StoreUnavailable:
            continue
    raise AssertionError("it does not come to an end")


STORES: list[Callable[[str], Watched]] = [Watched, SendingTwice, Restarting, Losing, LosingAnswers]


@pytest.mark.parametrize("kind", STORES)
def test_documents_come_right_whatever_happens_between_two_batches(
    make_real_world: MakeWorld, kind: Callable[[str], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder, "_LOOK_S", 0.0)
    world = make_real_world(Notes, Shelves)
    written(world, 6)
    store = kind(world.store_at)
    try:
        fed(world, store)
    finally:
        store.close()
    assert world.documents("notes") == expected_notes(world.bus)
    assert world.documents("shelves") == expected_shelves(world)


def test_the_next_batch_is_folded_while_one_is_written(make_real_world: MakeWorld) -> None:
    """Documents of the batch that is being written are taken from it, all others from the store."""
    world = make_real_world(Notes)
    world.put("before")
    world.catch_up()  # in an index that was empty, most are known not to be there
    for number in range(4 * BATCH):
        world.put(f"n{number % (BATCH + 1)}", f"text {number}", number)
    store = Waiting(world.store_at)
    try:
        fed(world, store)
    finally:
        store.close()
    assert world.documents() == expected_notes(world.bus)
    assert len(store.asked) == len(store.written) == 4
    assert not any(asked & written for asked, written in zip(store.asked[1:], store.written, strict=False))


def test_a_record_that_fails_ahead_is_told_when_it_is_the_next(make_real_world: MakeWorld) -> None:
    """All before it is written, and it is told as ever."""
    world = make_real_world(Notes)
    for number in range(2 * BATCH + 1):
        world.put(f"n{number}", "text", number)
    poison = world.put("n1", "poison")
    world.put("n2", "later")
    with pytest.raises(ProjectionStopped, match=f"before record {poison} .*cannot be digested"):
        Projector(world.bus, world.store, batch=BATCH).catch_up()
    found: dict[str, Any] = world.documents()
    assert {key: each["number"] for key, each in found.items()} == {f"n{n}": n for n in range(2 * BATCH + 1)}


class Deciding(Watched):
    """While it takes the first batch, somebody decides to leave out a record that was absorbed before."""

    def __init__(self, world: World, position: int) -> None:
        super().__init__(world.store_at)
        self._world, self._position = world, position

    def write_many(self, index: str, writes: Sequence[Write]) -> list[Write]:
        if not self.written:
            left_out(self._world, self._position)
            for note in ("later", *"abc", "kept", *"abc"):
                self._world.put(note, "again")
        if any(write.key == "later" for write in writes):
            eventually(lambda: any("kept" in asked for asked in self.asked))
        return super().write_many(index, writes)


def left_out(world: World, position: int) -> None:
    """A decision as `skip_record` writes it, which refuses what stops no slice now."""
    result = {"projection": "notes", "of_version": 1, "position": position}
    row = {"kind": "outcome", "status": "succeeded", "action": "skip_record", "correlation_id": "c", "format": 1}
    with world.bus.engine.begin() as connection:
        connection.execute(insert(journal_table()).values(**row, action_id=uuid4(), arguments={}, result=result))


def test_what_was_folded_ahead_over_a_document_that_was_mended_is_folded_again(
    make_real_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kept` is loaded for the batch after the decision's before the record is taken out of it."""
    monkeypatch.setattr(feeder, "_LOOK_S", 1e9)
    world = make_real_world(Notes)
    position = world.put("kept")
    world.catch_up()
    for note in "abcdefghijkl":
        world.put(note)
    store = Deciding(world, position)
    try:
        fed(world, store)
    finally:
        store.close()
    kept = world.documents()["kept"]
    assert (kept["text"], kept["changes"]) == ("again", 0)
