"""A verification names whatever of an index is not as the journal has it, and nothing else, whoever feeds it meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from actionbus.adapters.metrics import ProjectionCollector
from actionbus.projections import NeedsRebuild, Projection, ProjectionStopped, StoreUnavailable, on
from actionbus.projections.discrepancy import Discrepancy
from tests.conftest import TORTURE
from tests.projections.breaking import tamper
from tests.projections.conftest import PAIRS, MakeWorld, World, on_worlds_in_turn
from tests.projections.faults import Faults, When, faulty_operations, faulty_store, projector
from tests.projections.notes.app import Document, Notes, Shelves
from tests.projections.running import running
from tests.projections.skipping import stopped_at
from tests.projections.waiting import eventually

WHOLE, SAMPLE = None, 3
STEP_BY_STEP = pytest.mark.parametrize("make_world", PAIRS if TORTURE else PAIRS[:1], indirect=True)


def filled(world: World) -> World:
    """Some notes, two of them changed, one dropped."""
    for number in range(8):
        world.put(f"n{number}", "text", number, "a")
    world.put("n1", "changed")
    world.put("n2", "changed", 1, "b")
    world.drop("n3")
    world.catch_up()
    return world


def verified(world: World, sample: int | None = WHOLE, name: str = "notes") -> list[Discrepancy]:
    return list(world.operations.verification(name, sample=sample))


def stored(world: World, key: str) -> tuple[int, Document]:
    index = world.store.aliased("notes")
    assert index is not None
    found = world.store.get_many(index, [key])[key]
    return found.version, dict(found.document or {})


def delete(world: World) -> None:
    tamper(world, "n4", None, 0)


def alter(world: World) -> None:
    version, document = stored(world, "n4")
    tamper(world, "n4", document | {"number": 40}, version)


def alter_a_type(world: World) -> None:
    version, document = stored(world, "n1")
    tamper(world, "n1", document | {"changes": True}, version)


def add(world: World) -> None:
    tamper(world, "n9", {"text": "never put", "number": 0, "changes": 0, "shelves": []}, 5)


def revive(world: World) -> None:
    tamper(world, "n3", {"text": "text", "number": 3, "changes": 0, "shelves": ["a"]}, 8)


def leave_an_older_version(world: World) -> None:
    tamper(world, "n2", {"text": "text", "number": 2, "changes": 0, "shelves": ["a"]}, 6)


def run_ahead(world: World) -> None:
    tamper(world, "n4", stored(world, "n4")[1], 10_000)


BREAKS: dict[str, tuple[Callable[[World], None], str, str]] = {
    "deleted": (delete, "n4", "missing"),
    "altered": (alter, "n4", "differing"),
    "added": (add, "n9", "surplus"),
    "brought back": (revive, "n3", "surplus"),
    "left over by an older version": (leave_an_older_version, "n2", "differing"),
    "ahead": (run_ahead, "n4", "ahead"),
}


@on_worlds_in_turn("how", BREAKS)
def test_whatever_breaks_a_document_it_is_named_with_both_sides(make_world: MakeWorld, how: str) -> None:
    world = filled(make_world(Notes))
    assert verified(world) == []
    right = world.documents()
    act, key, kind = BREAKS[how]
    act(world)
    broken = world.documents()
    (found,) = verified(world)
    assert (found.key, found.kind) == (key, kind)
    assert (found.stored, found.folded) == (broken.get(key), right.get(key))
    (status,) = world.operations.status()
    assert status.verified is not None
    assert status.verified.differences == 1
    assert "1 of" in status.verified.told
    assert not status.healthy


@on_worlds_in_turn("how", BREAKS)
def test_a_sample_of_all_finds_it_too(make_world: MakeWorld, how: str) -> None:
    world = filled(make_world(Notes))
    assert verified(world, 100) == []
    BREAKS[how][0](world)
    assert [(each.key, each.kind) for each in verified(world, 100)] == [BREAKS[how][1:]]


@on_worlds_in_turn("act", [delete, add])
def test_a_sample_that_misses_it_says_that_the_whole_is_not_right(
    make_world: MakeWorld, act: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = filled(make_world(Notes))
    act(world)
    monkeypatch.setattr("actionbus.projections.holding.Sample.__call__", lambda _self, key: key == "n1")
    monkeypatch.setattr(type(world.store), "sample", lambda *_: ["n1"])
    verification = world.operations.verification("notes", sample=SAMPLE)
    assert list(verification) == []
    assert verification.outcome
    assert verification.outcome.problem
    assert not verification.outcome.is_right


def test_one_and_one_point_nought_are_two_things(make_world: MakeWorld) -> None:
    world = make_world(Flags)
    world.put("n", "text", 1)
    world.catch_up()
    assert verified(world, name="flags") == []
    tamper(world, "n", {"flag": 1.0}, 2, "flags")
    (found,) = verified(world, name="flags")
    assert str(found.stored) == "{'flag': 1.0}"
    assert str(found.folded) == "{'flag': 1}"


class Flags(Projection):
    """One number for every note."""

    @on("put_note", key="note")
    def put(self, document: Document | None, record: object) -> Document:
        """As it is."""
        return {"flag": 1}


def move_on(world: World) -> None:
    """Change a document, make one, drop one, and absorb that."""
    world.put("n1", "again")
    world.put("new", "text")
    world.drop("n5")
    world.catch_up()


def leave_one_out(world: World) -> None:
    """Stop at a record and leave it out; with it goes what was absorbed."""
    stopped_at(world)
    world.operations.skip("notes")
    world.catch_up()


def touch(world: World) -> None:
    """Change the document that decisions are about."""
    world.put("n7", "touched")
    with suppress(ProjectionStopped):
        world.catch_up()


def decide(world: World) -> None:
    """Leave out a record that was absorbed; whoever feeds has not heard of it yet."""
    world.catch_up()
    position = world.put("n7", "odd")
    world.put("n7", "even")
    world.catch_up()
    with world.bus.engine.begin() as connection:
        stopped = text("UPDATE actionbus_checkpoints SET state = 'stopped', detail = :detail")
        connection.execute(stopped, {"detail": json.dumps({"position": position})})
    world.operations.skip("notes")


def take_out(world: World) -> None:
    """The same, and it is taken out of a document that keeps its version."""
    decide(world)
    world.catch_up()


def be_cut_off(world: World) -> None:
    """Write half a batch, so that documents are newer than the checkpoint."""
    world.put("n1", "newer")
    world.put("n6", "newer")
    with suppress(StoreUnavailable):
        projector(world.bus, world.store, Faults("write_many", "after"), Notes).catch_up()


def clear_tombstones(world: World) -> None:
    """Let a document be dropped, and nothing be left of it."""
    world.put("n6", "again")
    world.catch_up()
    world.drop("n6")
    world.catch_up()
    world.operations.prune(timedelta(0))


MOVES = {
    "moves on": move_on,
    "leaves out": leave_one_out,
    "decides": decide,
    "takes out": take_out,
    "is cut off": be_cut_off,
    "is cleared": clear_tombstones,
}


@STEP_BY_STEP
@pytest.mark.parametrize("sample", [WHOLE, 100], ids=["whole", "sample"])
@pytest.mark.parametrize("move", MOVES)
def test_at_whatever_step_documents_move_on_nothing_is_blamed_but_what_is_wrong(
    make_world: MakeWorld, move: str, sample: int | None
) -> None:
    world = filled(make_world(Notes))
    alter(world)
    number, is_over = 0, False
    while not is_over:
        number += 1
        faults = Faults(number, "before" if number % 2 else "after", lambda _error: MOVES[move](world))
        # One document is suspected in any case, for it moved on: what becomes of it while it is judged is told, too.
        store = faulty_store(world.store, Faults("scan", "before", lambda _error: touch(world)))
        found = list(faulty_operations(world.bus, store, faults).verification("notes", sample=sample))
        assert [each.key for each in found] == ["n4"], f"call {number}: {faults.calls}"
        is_over = not faults.happened
    assert number > 8


@STEP_BY_STEP
@pytest.mark.parametrize("when", ["before", "after"])
def test_whatever_the_store_or_ledger_does_not_answer_is_no_missing_document(make_world: MakeWorld, when: When) -> None:
    world = filled(make_world(Notes))
    number, is_over = 0, False
    while not is_over:
        number += 1
        faults = Faults(number, when)
        verification = faulty_operations(world.bus, world.store, faults).verification("notes")
        with suppress(StoreUnavailable, SQLAlchemyError):
            assert list(verification) == []
        is_over = not faults.happened
        assert (verification.outcome is not None) == is_over
    assert number > 8


def test_it_is_right_beside_a_projector_under_traffic(world: World) -> None:
    filled(world)
    alter(world)
    with running(world):
        for round_number in range(5):
            for number in (0, 1, 2, 5, 6, 7):
                world.put(f"n{number}", f"round {round_number}")
            assert [each.key for each in verified(world)] == ["n4"]


def test_slices_of_which_one_is_behind_are_judged_each_by_itself(make_world: MakeWorld) -> None:
    world = make_world(Notes)
    for part in (1, 2):
        world.put("n0", "text")
        projector(world.bus, world.store, Faults(0, "before"), Notes, part=part, parts=2).catch_up()
    for number in range(20):
        world.put(f"n{number}", "text")
    projector(world.bus, world.store, Faults(0, "before"), Notes, part=2, parts=2).catch_up()
    assert verified(world) == []
    assert 0 < len(world.documents()) < 20


def test_an_index_that_this_code_does_not_feed_is_not_verified(make_world: MakeWorld) -> None:
    world = make_world(Notes)
    with pytest.raises(NeedsRebuild):
        verified(world)


def test_a_record_that_the_present_reducers_cannot_absorb_is_said(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = filled(make_world(Notes))
    broken = Notes.reducers[-1]._replace(function=lambda *_: 1 / 0)
    monkeypatch.setattr(Notes, "reducers", (*Notes.reducers[:-1], broken))
    with pytest.raises(ProjectionStopped, match="verification of notes stopped before record"):
        verified(world)


def test_metrics_say_what_was_found_and_a_new_index_begins_without(world: World) -> None:
    def gauges() -> dict[str, float]:
        found = (each for each in ProjectionCollector(world.operations).collect() if "_verified_" in each.name)
        return {each.name.rsplit("_verified_")[1]: each.samples[0].value for each in found if each.samples}

    filled(world)
    assert gauges() == {}
    delete(world)
    verified(world)
    found = gauges()
    assert found.pop("timestamp_seconds") > 1e9
    assert found == {"documents": 7.0, "differences": 1.0, "right": 0.0}
    world.operations.rebuild("notes")
    served = [each for each in world.operations.status() if each.role == "serving"]
    assert [each.verified for each in served] == [None] * len(served)
    with running(world):
        eventually(lambda: all(each.healthy for each in world.operations.status() if each.projection == "notes"))
    assert verified(world) == []


def test_one_record_of_several_documents_is_verified_in_each(make_world: MakeWorld) -> None:
    world = make_world(Shelves)
    world.put("n", "text", 1, "a", "b", "c")
    world.catch_up()
    assert verified(world, name="shelves") == []
    tamper(world, "shelf b", {"notes": []}, 2, "shelves")
    assert [each.key for each in verified(world, name="shelves")] == ["shelf b"]
