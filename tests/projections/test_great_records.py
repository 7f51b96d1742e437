"""A record of more documents than there is room for is absorbed in parts, whole or not at all, whoever is cut off when."""

from __future__ import annotations

import gc
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from actionbus.projections import Projection, ProjectionStopped, Projector, StoreUnavailable, feeder, mending, on
from actionbus.projections.entries import Entry, Room
from actionbus.projections.store import StoredDocument, Write
from tests.conftest import TORTURE
from tests.projections.conftest import PAIRS, MakeWorld, World
from tests.projections.faults import Faults, projector
from tests.projections.waiting import end_leases

Document = dict[str, Any]
KEYS = 23
ROOM = Room(documents=5, bytes=10**9)


class Copies(Projection):
    """A note in very many copies, which are lists of texts; one reducer more for every third."""

    mappings = {"dynamic": "strict", "properties": {"texts": {"type": "keyword"}, "n": {"type": "integer"}}}

    @on("put_note", key=lambda record: [f"copy {n}" for n in range(record.arguments["number"])])
    def put(self, document: Document | None, record: Any) -> Document | None:
        """One more text; the last copy is the only one that may be poison, or something that no mapping takes."""
        text, texts = record.arguments["text"], (document or {}).get("texts", [])
        if text == "poison" and len(texts) % 2:
            raise ValueError("not this one")
        if text == "drop":
            return None
        return {"texts": [*texts, text]}

    @on("put_note", key=lambda record: [f"copy {n}" for n in range(0, record.arguments["number"], 3)])
    def put_more(self, document: Document | None, record: Any) -> Document | None:
        """And the same in small letters."""
        if document is None:
            return None
        return {"texts": [*document["texts"], record.arguments["note"]]}


def expected(*puts: tuple[str, str, int]) -> dict[str, Document]:
    """By a fold that shares no code with ours."""
    found: dict[str, list[str]] = {}
    for note, text, number in puts:
        for n in range(number):
            found.setdefault(f"copy {n}", []).extend([text, note] if n % 3 == 0 else [text])
            if text == "drop":
                del found[f"copy {n}"]
    return {key: {"texts": texts} for key, texts in found.items()}


@pytest.fixture(autouse=True)
def small_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few documents are many."""
    monkeypatch.setattr(feeder, "ROOM", ROOM)
    monkeypatch.setattr("actionbus.projections.verification._ROOM", ROOM)
    monkeypatch.setattr("actionbus.projections.entries._FIRST_PAGE", 2)
    monkeypatch.setattr(mending, "_MOST", ROOM)
    monkeypatch.setattr(mending, "_PAGE", ROOM)


def is_right(world: World, documents: dict[str, Document]) -> None:
    """What readers see, what was counted, and what verification and a rebuild come to."""
    assert world.documents("copies") == documents
    rows = world.operations._catalogue.ledger.checkpoints(index=world.store.aliased("copies"))
    assert sum(row.documents or 0 for row in rows) == len(documents)
    assert list(world.operations.verification("copies", sample=None)) == []


PUTS = [("A", "one", 2), ("B", "two", KEYS), ("C", "three", 3), ("D", "drop", KEYS - 2), ("E", "four", KEYS)]


@pytest.mark.parametrize("parts", [1, 2])
def test_a_great_record_comes_to_the_same_in_parts_and_no_more_is_loaded_or_written_at_a_time(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    world = make_world(Copies)
    at_a_time: list[int] = []
    kind = type(world.store)
    load, write = kind.get_many, kind.write_many

    def loaded(self: Any, index: str, keys: Collection[str]) -> dict[str, StoredDocument]:
        at_a_time.append(len(keys))
        return load(self, index, keys)

    def written(self: Any, index: str, writes: Sequence[Write]) -> list[Write]:
        at_a_time.append(len(writes))
        return write(self, index, writes)

    monkeypatch.setattr(kind, "get_many", loaded)
    monkeypatch.setattr(kind, "write_many", written)
    for put in PUTS:
        world.put(put[0], put[1], put[2])
    for part in range(1, parts + 1):
        Projector(world.bus, world.store, part=part, parts=parts).catch_up()
    assert at_a_time
    assert max(at_a_time) <= 2 * ROOM.documents, "of the records before it, and of its own"
    monkeypatch.undo()
    is_right(world, expected(*PUTS))
    world.operations.rebuild("copies")
    is_right(world, expected(*PUTS))


def test_a_great_record_that_grows_beyond_all_room_is_let_go_of_part_by_part(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A big argument in each of not so many documents."""
    world = make_world(Copies)
    monkeypatch.setattr(feeder, "ROOM", Room(documents=100, bytes=8_000))
    text, most, turns = "x" * 1000, 0, count(1)

    def watched(self: Entry, *given: Any) -> None:
        nonlocal most
        become(self, *given)
        if next(turns) % 6:  # all that the process holds is looked through
            return
        alive = [each for each in gc.get_objects() if isinstance(each, list) and each and type(each[0]) is Write]
        most = max(most, sum(len(write.text or b"") for each in alive for write in each))

    become = Entry.become
    puts = [("A", "one", 2), ("B", text, KEYS), ("C", text, 3), ("D", text, 3), ("E", text, KEYS)]
    for put in puts:
        world.put(*put)
    monkeypatch.setattr(Entry, "become", watched)
    world.catch_up()
    assert 0 < most <= 8_000 + 4_000
    is_right(world, expected(*puts))


@pytest.mark.parametrize("make_world", PAIRS if TORTURE else PAIRS[:1], indirect=True)
def test_a_great_record_that_is_cut_off_at_any_step_is_done_whole_later(make_world: MakeWorld) -> None:
    world = make_world(Copies)
    puts = list(PUTS)
    for put in puts:
        world.put(*put)
    world.catch_up()
    whole = Faults(0, "after")
    for number in range(100):
        faults = Faults(number, "after") if number else whole
        puts.append((f"F{number}", "more", KEYS))
        world.put(*puts[-1])
        with suppress(StoreUnavailable, SQLAlchemyError):
            projector(world.bus, world.store, faults, Copies).catch_up()
        end_leases(world.bus.engine)
        world.catch_up()
        assert world.documents("copies") == expected(*puts)
        if number > 1 and not faults.happened:
            break
    assert whole.calls.count("write_many") > KEYS / ROOM.documents
    is_right(world, expected(*puts))


def test_nothing_of_a_great_record_is_written_that_a_reducer_cannot_absorb(make_world: MakeWorld) -> None:
    world = make_world(Copies)
    puts = [("A", "even", KEYS), ("B", "odd", 1), ("C", "even", KEYS - 1)]
    for put in puts:
        world.put(*put)
    world.catch_up()
    poison = world.put("D", "poison", KEYS)
    world.put("E", "later", 3)
    with pytest.raises(ProjectionStopped, match=f"before record {poison}"):
        world.catch_up()
    assert world.documents("copies") == expected(*puts)
    world.operations.skip("copies")
    world.catch_up()
    is_right(world, expected(*puts, ("E", "later", 3)))


def test_nothing_of_a_great_record_stays_that_the_store_refuses_in_its_middle(
    make_real_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when the mapping takes it all of it is there; and when it is left out after all nothing is again."""

    class Fields(Copies):
        name = "copies"

        @on("put_note", key=lambda record: f"copy {record.arguments['number'] // 2}")
        def put_odd(self, document: Document | None, record: Any) -> Document | None:
            return {**(document or {}), "n": "none"} if record.arguments["text"] == "bad" else document

    world = make_real_world(Fields)
    puts = [("A", "good", KEYS), ("B", "good", 4)]
    for put in puts:
        world.put(*put)
    bad = world.put("C", "bad", KEYS)
    puts.append(("D", "later", 3))
    world.put(*puts[-1])
    with pytest.raises(ProjectionStopped, match=f"{KEYS // 2}.*{bad}|{bad}.*{KEYS // 2}"):
        world.catch_up()
    assert world.documents("copies") == expected(*puts[:-1])
    world.operations.skip("copies")
    world.catch_up()
    is_right(world, expected(*puts))
