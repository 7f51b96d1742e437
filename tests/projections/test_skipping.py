"""Leaving a record out: an operator's decision, only about what stopped a projection, and never the end of rebuilds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from actionbus import InvalidArguments, PermissionDenied
from actionbus.projections import Projection, ProjectionStopped, Projector, documents_at, on
from actionbus.projections.actions.skip_record import SkipRecord
from actionbus.projections.errors import DocumentsRefused
from actionbus.projections.feeder import Feeder
from actionbus.projections.ledger import Ledger
from actionbus.projections.search import Search
from actionbus.projections.store import Write
from actionbus.replay import Replayer
from tests.decoys import lead_astray
from tests.projections.conftest import PAIRS, MakeWorld, World, on_worlds_in_turn, worlds
from tests.projections.notes.app import Notes, make_application
from tests.projections.running import running
from tests.projections.skipping import stopped_at
from tests.projections.waiting import Calls, eventually

Document = dict[str, Any]


def decide(world: World, position: int, **other: object) -> Any:
    """`skip_record` run by an operator, with arguments of one's own."""
    about = {"projection": "notes", "of_version": 1, "position": position} | other
    return world.bus.runner("op", operator=True).execute("skip_record", about)


@pytest.mark.parametrize("make_world", PAIRS[:2], indirect=True)
def test_no_table_that_only_has_its_name_is_taken_for_ours(make_world: MakeWorld) -> None:
    world = make_world()
    lead_astray(world.bus)
    world.operations.skip("notes", stopped_at(world))
    world.catch_up("notes")
    world.operations.rebuild("notes")
    assert set(world.documents()) == {"a", "b"}
    assert {status.lag_positions for status in world.operations.status() if status.projection == "notes"} == {0}
    assert world.store.search("notes", Search("fine")).total == 2


def test_a_replay_leaves_out_what_operators_decided(request: pytest.FixtureRequest) -> None:
    for make in worlds(request, "sqlite", "embedded"):
        leaves_out_what_operators_decided(make())


def leaves_out_what_operators_decided(world: World) -> None:
    position = stopped_at(world)
    with pytest.raises(PermissionDenied):
        world.bus.execute("skip_record", {"projection": "notes", "of_version": 1, "position": position})
    world.operations.skip("notes")
    with Replayer(world.bus.journal, make_application()) as replayer:
        ran = [step.record.action for step in replayer.verify(statuses=("succeeded", "denied", "rejected"))]
    assert ran == ["put_note"] * 3
    assert set(documents_at(world.bus.journal, Notes, world.bus.journal.last()).documents) == {"a", "b"}


# --- about what


@on_worlds_in_turn(
    ("field", "message", "about"),
    [
        ("projection", "is not the name of a projection that was ever fed", {"projection": "nothing"}),
        ("of_version", "there are: 1", {"of_version": 2}),
        ("of_version", "there are: 1", {"of_version": 10**30}),
        ("position", "which is stopped by", {"position": 2}),
        ("position", "which is stopped by", {"position": 10**900}),
        ("position", "which is not stopped by a record", {"projection": "shelves"}),
    ],
)
def test_only_the_record_that_stopped_that_version_of_that_projection_is_left_out(
    make_world: MakeWorld, field: str, message: str, about: Document
) -> None:
    world = make_world()
    position = stopped_at(world)
    world.catch_up("shelves")
    with pytest.raises(InvalidArguments) as caught:
        decide(world, **({"position": position} | about))
    assert list(caught.value.errors) == [field]
    assert message in caught.value.errors[field][0]
    assert decide(world, position).status == "succeeded"


def test_a_record_that_is_mended_meanwhile_is_not_left_out(make_world: MakeWorld) -> None:
    position = stopped_at(make_world(Notes))

    class Mended(Notes):
        name = "notes"

        @on("put_note", key="note")
        def put(self, document: Any, record: Any) -> Any:
            return {"text": record.arguments["text"]}

    mended = make_world(Mended)
    mended.catch_up("notes")
    with pytest.raises(InvalidArguments, match="is not stopped by a record"):
        decide(mended, position)


# --- what comes of it


def test_fed_once_a_projection_that_stops_says_so_and_holds_no_other_up(world: World) -> None:
    """As from cron: `projections run --once`."""
    world.put("a", "fine", 0, "s")
    position = world.put("bad", "poison", 0, "s")
    last = world.put("b", "fine", 0, "s")
    for _ in range(2):
        with pytest.raises(ProjectionStopped, match="cannot be digested"):
            world.catch_up()
        told = {status.projection: status for status in world.operations.status()}
        assert (told["notes"].state, told["notes"].position) == ("stopped", position - 1)
        assert told["notes"].detail["position"] == position
        assert not told["notes"].alive
        assert {told[name].state for name in ("shelves", "refusals")} == {"idle"}
        assert min(told[name].position for name in ("shelves", "refusals")) >= last
    world.operations.skip("notes")
    world.catch_up()
    assert {status.state for status in world.operations.status()} == {"idle"}
    assert set(world.documents()) == {"a", "b"}


def test_a_projection_that_needs_a_rebuild_says_so_when_fed_once_and_no_more_when_it_was_made_whole(
    make_world: MakeWorld,
) -> None:
    world = make_world(Notes)
    world.put("a", "fine")
    world.catch_up()
    with world.bus.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE actionbus_checkpoints SET position = 0, writing_to = 0")
    with pytest.raises(ProjectionStopped, match="restored"):
        world.catch_up()
    assert world.operations.status()[0].state == "stopped"
    with world.bus.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE actionbus_checkpoints SET position = 2, writing_to = 2")
    world.catch_up()
    assert world.operations.status()[0].state == "idle"


def forged(world: World, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """A decision about a healthy record that was absorbed long ago, as an older release took from anybody."""
    world.put("a", "fine")
    position = world.put("gone", "fine")
    world.put("b", "fine")
    world.catch_up("notes")
    monkeypatch.setattr(SkipRecord, "validate", lambda self: None)
    decide(world, position)
    return {"a", "b"}


def poisoned(world: World, _: pytest.MonkeyPatch) -> set[str]:
    stopped_at(world)
    world.operations.skip("notes")
    return {"a", "b"}


def poisoned_in_the_rebuild(world: World, _: pytest.MonkeyPatch) -> set[str]:
    world.put("a", "fine")
    world.catch_up("notes")
    world.put("bad", "poison")
    with pytest.raises(ProjectionStopped, match="cannot be digested"):
        world.operations.rebuild("notes")
    world.operations.skip("notes")
    world.put("b", "fine")
    return {"a", "b"}


def decided_while_it_is_built(world: World, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The record is in the new index already when it is decided to leave it out."""
    expected = {"a", "b"}
    world.put("a", "fine")
    position = world.put("gone", "fine")
    world.put("b", "fine")
    world.catch_up("notes")
    original = type(world.store).finish_loading
    monkeypatch.setattr(SkipRecord, "validate", lambda self: None)
    decided: list[Any] = []

    def decide_first(self: Any, index: str) -> None:
        if not decided:
            decided.append(decide(world, position))
            raise KeyboardInterrupt
        original(self, index)

    monkeypatch.setattr(type(world.store), "finish_loading", decide_first)
    with pytest.raises(KeyboardInterrupt):
        world.operations.rebuild("notes")
    return expected


@on_worlds_in_turn("happen", [forged, poisoned, poisoned_in_the_rebuild, decided_while_it_is_built])
def test_feeder_rebuild_and_verification_agree_on_what_is_left_out(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, happen: Callable[[World, pytest.MonkeyPatch], set[str]]
) -> None:
    world = make_world(Notes)
    expected = happen(world, monkeypatch)
    for _ in range(2):
        world.operations.rebuild("notes")
        assert set(world.documents()) == expected
    world.put("c", "fine")
    world.catch_up("notes")
    assert set(world.documents()) == {*expected, "c"}
    assert list(world.operations.differences("notes")) == []
    world.operations.prune()
    assert len(world.store.indices("notes")) == 1


class Strict(Projection):
    """One record folds into a document that every store takes, and into one that Elasticsearch may refuse."""

    mappings = {"properties": {"n": {"type": "integer"}, "sum": {"type": "long"}}}

    @on("put_note", key=lambda record: "sum")  # in the second slice of two, as "x" is
    def summed(self, document: Document | None, record: Any) -> Document:
        """The sum of the numbers."""
        return {"sum": (document or {}).get("sum", 0) + record.arguments["number"]}

    @on("put_note", key="note")
    def put(self, document: Document | None, record: Any) -> Document:
        """What may not be one."""
        return {"n": record.arguments["text"]}


@pytest.mark.parametrize("where", ["served", "rebuilt", "rebuilt in slices"])
def test_nothing_of_a_record_that_the_store_refused_is_in_the_index_that_a_rebuild_makes(
    make_real_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    world = make_real_world(Strict)
    world.put("x", "1", 1)
    if where != "served":
        monkeypatch.setattr(Strict, "mappings", {"properties": {"n": {"type": "keyword"}, "sum": {"type": "long"}}})
    parts = 2 if where == "rebuilt in slices" else 1
    for part in range(1, parts + 1):
        Projector(world.bus, world.store, part=part, parts=parts).catch_up()
    monkeypatch.undo()
    position = world.put("x", "not a number", 2)
    world.put("y", "4", 4)
    with pytest.raises(ProjectionStopped, match="refused"):
        if where == "served":
            world.catch_up()
        else:
            world.operations.rebuild("strict")
    assert world.operations.skip("strict").result["position"] == position
    world.operations.rebuild("strict")
    assert world.documents("strict") == {"sum": {"sum": 5}, "x": {"n": "1"}, "y": {"n": "4"}}


class Growing(Projection):
    """Documents that become too big for the store."""

    @on("put_note", key="note")
    def put(self, document: Document | None, record: Any) -> Document:
        """All texts there were."""
        return {"texts": [*(document or {}).get("texts", []), record.arguments["text"]]}


@pytest.mark.parametrize("batch", [5000, 4])
def test_a_document_that_the_store_refuses_stops_just_before_the_record_that_made_it_so(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Not the last one of the batch that touched it, nor the first; and other projections go on."""
    world = make_world(Growing, Notes)
    original = type(world.store).write_many

    def refuse_big_ones(self: Any, index: str, writes: Sequence[Write]) -> list[Write]:
        if small := [write for write in writes if len(write.text or b"") < 100 or index.startswith("notes")]:
            original(self, index, small)
        if big := [(write.key, write.version, "too big") for write in writes if write not in small]:
            raise DocumentsRefused(big)
        return []

    monkeypatch.setattr(type(world.store), "write_many", refuse_big_ones)
    for number in range(7):
        world.put("x", str(number))
        world.put(f"before {number}", "1")
    bad = world.put("x", "much" * 30)
    for number in range(7):
        world.put(f"after {number}", "1")
        last = world.put("x", f"+{number}")

    def feed() -> dict[str, int]:
        return Projector(world.bus, world.store, batch=batch).catch_up()

    for _ in range(2):
        with pytest.raises(ProjectionStopped, match=r"'x' of record .* was refused: too big") as caught:
            feed()
        assert caught.value.detail["position"] == bad
        told = {status.projection: status for status in world.operations.status()}
        assert told["growing"].state == "stopped"
        assert bad - 2 <= told["growing"].position < bad, "only what was submitted lies between"
        assert told["notes"].position >= last
    assert world.documents("growing")["x"] == {"texts": [str(number) for number in range(7)]}
    world.operations.skip("growing")
    assert feed()["growing"] >= last
    assert world.documents("growing")["x"] == {"texts": [*map(str, range(7)), *(f"+{n}" for n in range(7))]}
    assert len(world.documents("growing")) == 15
    world.operations.rebuild("growing")


# --- retry and skip are heard


def test_a_retry_is_heard_at_whichever_moment_it_is_said(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also just after the projector saw that nobody had said anything yet, and just before its sign of life."""
    world = make_world(Notes)
    world.put("a", "poison")
    tries = Calls(monkeypatch, Feeder, "step")
    original = Ledger.checkpoint
    said: list[int] = []

    def say_it_now(self: Ledger, index: str, part: int) -> Any:
        found = original(self, index, part)
        if found and found.state == "stopped" and not said:
            said.append(world.operations.retry("notes"))
        return found

    monkeypatch.setattr(Ledger, "checkpoint", say_it_now)
    with running(world):
        eventually(lambda: said == [1])
        stops = len([answer for answer in tries.answers if isinstance(answer, ProjectionStopped)])
        eventually(lambda: len([answer for answer in tries.answers if isinstance(answer, ProjectionStopped)]) > stops)


def test_a_decision_is_found_by_a_projector_that_nobody_woke(make_world: MakeWorld) -> None:
    """As when it was run over HTTP, by somebody whom the checkpoint lets."""
    world = make_world(Notes)
    position = world.put("a", "poison")
    with running(world):
        eventually(lambda: [status.state for status in world.operations.status()] == ["stopped"])
        decide(world, position)
        last = world.put("b", "fine")
        eventually(lambda: world.operations.status()[0].position >= last)
    assert set(world.documents()) == {"b"}
