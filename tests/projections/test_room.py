"""What is in memory at a time is bounded by documents and their bytes, and what comes of it is the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest

from actionbus.projections import Projection, ProjectionStopped, feeder, on
from actionbus.projections.entries import Room
from actionbus.projections.store import StoredDocument, Write
from tests.projections.conftest import PAIRS, MakeWorld

Document = dict[str, Any]


class Everywhere(Projection):
    """One record folds into many documents, which grow."""

    @on("put_note", key=lambda record: [f"{record.arguments['note']} {n}" for n in range(record.arguments["number"])])
    def put(self, document: Document | None, record: Any) -> Document:
        """One more text."""
        return {"texts": [*(document or {}).get("texts", []), record.arguments["text"]]}


@pytest.mark.parametrize("make_world", PAIRS[:1], indirect=True)
@pytest.mark.parametrize(("room", "most"), [(Room(10, 10**9), 10 + 7), (Room(10**6, 3_000), 10)])
def test_a_batch_has_no_more_documents_and_bytes_than_there_is_room_for(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, room: Room, most: int
) -> None:
    """`most` documents are those of the room, and of one record; or so many of a thousand bytes, as they grow to be."""
    world = make_world(Everywhere)
    expected: dict[str, Document] = {}
    loaded: list[int] = []
    kind = type(world.store)
    original, write = kind.get_many, kind.write_many

    def seen(self: Any, index: str, keys: Collection[str]) -> dict[str, StoredDocument]:
        loaded.append(len(keys))
        return original(self, index, keys)

    written: list[int] = []

    def written_too(self: Any, index: str, writes: Sequence[Write]) -> list[Write]:
        written.append(len(writes))
        return write(self, index, writes)

    monkeypatch.setattr(kind, "get_many", seen)
    monkeypatch.setattr(kind, "write_many", written_too)
    monkeypatch.setattr(feeder, "ROOM", room)
    monkeypatch.setattr("actionbus.projections.entries._FIRST_PAGE", 2)
    for turn in range(3):
        for number in range(30):
            note, text, keys = f"n{number % 11}", f"{turn}{number}" * 200, number % 7 + 1
            world.put(note, text, keys)
            for key in (f"{note} {n}" for n in range(keys)):
                expected.setdefault(key, {"texts": []})["texts"].append(text)
        world.catch_up()
        if turn == 1:
            loaded.clear()
            written.clear()
    assert world.documents("everywhere") == expected
    assert len(written) > 2
    assert max(written) <= most
    world.operations.rebuild("everywhere")
    assert list(world.operations.differences("everywhere")) == []


@pytest.mark.parametrize("make_world", PAIRS[:1], indirect=True)
def test_a_record_of_which_there_is_not_room_for_all_documents_is_absorbed_alone(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(Everywhere)
    monkeypatch.setattr(feeder, "ROOM", Room(1, 1))
    monkeypatch.setattr("actionbus.projections.entries._FIRST_PAGE", 2)
    for text in ("one", "two", "three"):
        world.put("n", text, 9)
    world.catch_up()
    assert world.documents("everywhere") == {f"n {n}": {"texts": ["one", "two", "three"]} for n in range(9)}


class Fussy(Everywhere):
    """The same, but it cannot take every record."""

    @on("put_note", key=lambda record: [f"{record.arguments['note']} {n}" for n in range(record.arguments["number"])])
    def put(self, document: Document | None, record: Any) -> Document:
        """One more text, unless it is poison."""
        if record.arguments["text"] == "poison":
            raise ValueError("not this one")
        return {"texts": [*(document or {}).get("texts", []), record.arguments["text"]]}


@pytest.mark.parametrize("make_world", PAIRS[:1], indirect=True)
@pytest.mark.parametrize("room", [Room(4, 10**9), Room(10**6, 60)])
def test_where_the_room_ends_behind_a_record_that_cannot_be_absorbed_it_stops_before_that_record(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, room: Room
) -> None:
    world = make_world(Fussy)
    monkeypatch.setattr("actionbus.projections.entries._FIRST_PAGE", 2)
    for name in "abcdef":
        world.put(name, "first " * 5, 1)
    world.catch_up()
    monkeypatch.setattr(feeder, "ROOM", room)
    world.put("a", "good", 1)
    poison = world.put("b", "poison", 1)
    for name in "cdef":
        world.put(name, "later", 1)
    with pytest.raises(ProjectionStopped, match=f"before record {poison}"):
        world.catch_up()
    assert world.operations.status()[0].position == poison - 1
    world.operations.skip("fussy")
    world.catch_up()
    expected = {f"{name} 0": {"texts": ["first " * 5, "later"]} for name in "cdef"}
    expected |= {"a 0": {"texts": ["first " * 5, "good"]}, "b 0": {"texts": ["first " * 5]}}
    assert world.documents("fussy") == expected
