"""A record that the store refuses a part of: nothing of it stays, the right one is blamed, and no healthy one is lost."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import text

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.projections import Projection, ProjectionStopped, Projector, on
from actionbus.projections.mending import Mender
from tests.conftest import TORTURE
from tests.projections.conftest import MakeWorld, World
from tests.projections.running import running
from tests.projections.waiting import eventually

Document = dict[str, Any]
STRICT = {"properties": {"n": {"type": "integer"}, "sum": {"type": "long"}, "of": {"type": "keyword"}}}
LENIENT = {"properties": {"n": {"type": "keyword"}, "sum": {"type": "long"}, "of": {"type": "keyword"}}}
SUM_IN_SQL = """SELECT coalesce(sum((arguments->>'number')::int), 0) FROM journal
    WHERE kind = 'outcome' AND action = 'put_note' AND NOT position = ANY(:without)"""


class Strict(Projection):
    """One record folds into a sum, into whose last it was, and into a document that Elasticsearch may refuse."""

    mappings = STRICT

    @on("put_note", key=lambda record: ["sum", "last"])
    def summed(self, document: Document | None, record: Any) -> Document:
        """The sum of the numbers."""
        return {"sum": (document or {}).get("sum", 0) + record.arguments["number"], "of": record.arguments["note"]}

    @on("put_note", key="note")
    def put(self, document: Document | None, record: Any) -> Document:
        """What may not be a number; it stays bad until it is one."""
        return {"n": record.arguments["text"]}


def expected(world: World, *without: int) -> Document:
    """The sum, folded in plain SQL."""
    with world.bus.engine.connect() as connection:
        return {"sum": connection.execute(text(SUM_IN_SQL), {"without": list(without)}).scalar_one()}


def the_sum(world: World) -> Document:
    found = world.documents("strict")
    assert found["sum"] == found["last"]
    return {"sum": found["sum"]["sum"]}


def stopped(world: World, batch: int = 5000, parts: int = 1) -> list[int]:
    """Feed all slices; the positions that they are stopped by."""
    for part in range(1, parts + 1):
        try:
            Projector(world.bus, world.store, part=part, parts=parts, batch=batch).catch_up()
        except ProjectionStopped as error:
            assert error.detail["refused"]
    rows = world.operations._catalogue.ledger.checkpoints("strict")
    return sorted({row.told["position"] for row in rows if row.state == "stopped"})


@pytest.mark.parametrize(("batch", "parts"), [(5000, 1), (2, 1), (5000, 2)])
def test_nothing_of_a_refused_record_stays_and_what_comes_after_it_is_not_lost(
    make_real_world: MakeWorld, batch: int, parts: int
) -> None:
    world = make_real_world(Strict)
    world.put("x", "1", 1)
    bad = world.put("x", "not a number", 10)
    world.put("y", "4", 100)
    also = world.put("x", "still none", 1000)
    world.put("x", "5", 10_000)
    world.put("z", "6", 100_000)
    worse = world.put("x", "none again", 1_000_000)
    found = stopped(world, batch, parts)
    while found:
        assert found[0] in (bad, also, worse)
        for position in found if parts == 1 else ():
            number = {bad: 10, also: 1000, worse: 1_000_000}[position]
            assert the_sum(world)["sum"] // number % 10 == 0, "nothing of the refused record is in it"
        world.operations.skip("strict", found[0])
        found = stopped(world, batch, parts)
    decided = [record.result["position"] for record in world.bus.journal.read(action="skip_record", kind="outcome")]
    assert the_sum(world) == expected(world, *decided)
    assert {bad} <= set(decided) <= {bad, also, worse}, "in one batch the second is made good by a later one"
    world.operations.rebuild("strict")
    assert the_sum(world) == expected(world, *decided)
    assert list(world.operations.differences("strict")) == []


@pytest.mark.parametrize("batch", [5000, 1])
def test_the_first_record_that_is_refused_is_blamed_and_no_healthy_one_is_dropped(
    make_real_world: MakeWorld, batch: int
) -> None:
    class Titles(Projection):
        mappings = {"properties": {"title": {"type": "text"}, "n": {"type": "integer"}}}

        @on("put_note", key="note")
        def put(self, document: Document | None, record: Any) -> Document:
            if record.arguments["text"].startswith("n="):
                return {**(document or {}), "n": record.arguments["text"][2:]}
            return {**(document or {}), "title": record.arguments["text"]}

    world = make_real_world(Titles)
    bad = world.put("a", "n=none")
    world.put("b", "other")
    world.put("a", "a good record")
    with pytest.raises(ProjectionStopped) as caught:
        Projector(world.bus, world.store, batch=batch).catch_up()
    assert caught.value.detail["position"] == bad
    world.operations.skip("titles")
    world.catch_up()
    assert world.documents("titles") == {"a": {"title": "a good record"}, "b": {"title": "other"}}


def test_a_record_that_is_taken_after_all_is_in_all_its_documents(make_real_world: MakeWorld) -> None:
    """The mapping was mended. What was folded without the record meanwhile is folded with it again."""
    world = make_real_world(Strict)
    assert isinstance(world.store, ElasticsearchStore)
    world.put("x", "1", 1)
    world.catch_up()
    world.store.client.indices.put_mapping(
        index=str(world.store.aliased("strict")), properties={"late": {"type": "integer"}}
    )
    world.put("x", "not a number", 10)
    world.put("y", "4", 100)
    assert stopped(world)
    assert the_sum(world) == {"sum": 101}

    class Mended(Strict):
        name = "strict"

        @on("put_note", key="note")
        def put(self, document: Document | None, record: Any) -> Document:
            return {"n": record.arguments["text"]} if record.arguments["text"].isdigit() else {"n": 0}

    mended = make_real_world(Mended)
    mended.catch_up()
    assert the_sum(mended) == expected(mended) == {"sum": 111}


def test_killed_between_the_refusal_and_the_mending_the_next_mends(
    make_real_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_real_world(Strict)
    world.put("x", "1", 1)
    bad = world.put("x", "not a number", 10)
    world.put("y", "4", 100)
    original = Mender.mend
    times: list[int] = []

    def die_first(self: Mender, position: int, *given: Any, **named: Any) -> bool:
        times.append(position)
        if len(times) == 1:
            raise KeyboardInterrupt
        return original(self, position, *given, **named)

    monkeypatch.setattr(Mender, "mend", die_first)
    with pytest.raises(KeyboardInterrupt):
        world.catch_up()
    assert stopped(world) == [bad]
    assert the_sum(world) == {"sum": 101}
    world.operations.skip("strict")
    world.catch_up()
    assert the_sum(world) == expected(world, bad)
    assert set(times) == {bad}


def test_what_was_counted_with_a_record_that_is_left_out_is_not_missed_afterwards(make_real_world: MakeWorld) -> None:
    """The document that was refused would have been a new one; and who goes on is another process."""
    world = make_real_world(Strict)
    world.put("x", "1", 1)
    world.catch_up()
    world.put("new", "not a number", 10)
    assert stopped(world)
    world.put("y", "4", 100)
    world.operations.skip("strict")
    for _ in range(2):
        world.catch_up()
    (row,) = world.operations._catalogue.ledger.checkpoints("strict")
    assert row.documents == len(world.documents("strict")) == 4
    world.put("z", "5", 1000)
    world.catch_up()
    world.catch_up()


def test_a_slice_that_has_absorbed_the_record_takes_it_out_while_it_runs(make_real_world: MakeWorld) -> None:
    """The other slice stopped at it; the decision reaches this one in the stream of records."""
    world = make_real_world(Strict)
    world.put("x", "1", 1)
    bad = world.put("x", "not a number", 10)
    assert stopped(world, parts=2) == [bad]
    rows = {row.slice: row for row in world.operations._catalogue.ledger.checkpoints("strict")}
    (ahead,) = (row.slice for row in rows.values() if row.state != "stopped")
    with running(world, part=ahead, parts=2):
        world.operations.skip("strict")
        eventually(lambda: {world.documents("strict")[key]["sum"] for key in ("sum", "last")} == {1})
    assert stopped(world, parts=2) == []
    assert the_sum(world) == expected(world, bad)


@pytest.mark.parametrize("seed", range(20 if TORTURE else 1))
def test_whatever_is_refused_the_documents_are_those_of_a_fold_without_what_was_decided(
    make_real_world: MakeWorld, seed: int
) -> None:
    world, chance = make_real_world(Strict), random.Random(seed)
    for _ in range(3):
        for _ in range(12):
            value = "none" if chance.random() < 0.1 else str(chance.randrange(9))
            world.put(chance.choice("xyz"), value, chance.randrange(1000))
        parts = chance.choice([1, 2, 3])
        while found := stopped(world, chance.choice([1, 3, 5000]), parts):
            world.operations.skip("strict", found[0])
    decided = [record.result["position"] for record in world.bus.journal.read(action="skip_record", kind="outcome")]
    assert the_sum(world) == expected(world, *decided)
    world.operations.rebuild("strict")
    assert the_sum(world) == expected(world, *decided)
