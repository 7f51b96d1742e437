"""Rebuilds: under traffic, killed and resumed, rolled back, tried out."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from actionbus.projections import NeedsRebuild, ProjectionStopped, on
from actionbus.projections.search import Search
from actionbus.projections.store import IndexInfo, Write
from tests import processes
from tests.conftest import TORTURE
from tests.projections.conftest import MakeWorld, World
from tests.projections.notes.app import Notes, expected_notes
from tests.projections.running import running, start_projector
from tests.projections.scribbling import in_sql
from tests.projections.waiting import PATIENCE_S, eventually

ANCHORS = 40


def start(function: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    code = f"import sys; from tests.projections.kills import {function}; {function}(*sys.argv[1:])"
    return processes.Popen([sys.executable, "-c", code, *arguments], env=os.environ | environment)


class Reader(threading.Thread):
    """Searches all the time; notes whatever no reader should ever see."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self._world = world
        self.stop = threading.Event()
        self.seen: set[str] = set()
        self.wrong: list[str] = []
        self.looks = 0

    def run(self) -> None:
        while not self.stop.wait(0.005):
            self.looks += 1
            try:
                index = self._world.store.aliased("notes")
                self.seen.add(str(index))
                found = self._world.store.search("notes", Search("anchor", limit=0)).total
                if index is None or found != ANCHORS or self._world.store.get("notes", "anchor 1") is None:
                    self.wrong.append(f"{index}: {found}")
            except Exception as error:
                self.wrong.append(repr(error))


def wait_until_it_works(world: World, rebuild: subprocess.Popen[bytes]) -> None:
    """Until it holds a claim that nobody held before, or has ended."""

    def holders() -> set[str | None]:
        return {row.holder for row in world.operations._catalogue.ledger.checkpoints("notes")}

    before = holders()
    eventually(lambda: rebuild.poll() is not None or holders() - before - {None})


def end_building_leases(world: World) -> None:
    """Of a rebuild that was killed; the projector's lives on."""
    with world.bus.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE actionbus_checkpoints SET alive_until = 0 WHERE NOT built")


def test_a_rebuild_under_traffic_is_killed_and_resumed_and_no_reader_notices(make_world: MakeWorld) -> None:
    world = make_world(Notes)
    for number in range(ANCHORS):
        last = world.put(f"anchor {number}", "anchor")
    for number in range(5000 if TORTURE else 100):
        last = world.put(f"old {number}", "old")
    url = world.url.render_as_string(hide_password=False)
    chance = random.Random(5)
    projector = start_projector(world)
    processes = [projector]
    try:
        world.operations.wait_for("notes", last, PATIENCE_S, refresh=True)
        reader = Reader(world)
        reader.start()
        writers = 8 if TORTURE else 2
        processes += [start("write", url, str(seed)) for seed in range(writers)]
        kills = 20 if TORTURE else 1
        for _ in range(kills):
            rebuild = start("rebuild", url, world.store_at)
            processes.append(rebuild)
            wait_until_it_works(world, rebuild)
            try:
                rebuild.wait(chance.random())
            except subprocess.TimeoutExpired:
                rebuild.kill()
                rebuild.wait()
            end_building_leases(world)
        final = start("rebuild", url, world.store_at)
        processes.append(final)
        assert final.wait(120) == 0
        for process in processes[1 : 1 + writers]:
            process.kill()
            process.wait()
        reader.stop.set()
        reader.join()
        world.operations.wait_for("notes", world.put("last"), PATIENCE_S)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert reader.wrong == []
    assert reader.looks > 20
    assert len(reader.seen) >= 2
    assert world.documents() == in_sql(world)
    removed = world.operations.prune()
    assert removed["indices"] >= 1
    assert world.store.indices("notes") == [world.store.aliased("notes")]


@pytest.mark.parametrize(
    ("step", "when"),
    [
        ("point_alias", "before"),
        ("point_alias", "after"),
        *([("write_many", "before"), ("write_many", "after")] * TORTURE),
    ],
)
def test_killed_at_a_bulk_or_at_the_switch_under_writers_a_rebuild_is_finished_by_the_next(
    make_world: MakeWorld, step: str, when: str
) -> None:
    world = make_world(Notes)
    for number in range(20):
        world.put(f"old {number}", "old")
    world.catch_up()
    before = world.store.aliased("notes")
    url = world.url.render_as_string(hide_password=False)
    with running(world):
        writer = start("write", url, "1")
        try:
            assert start("rebuild", url, world.store_at, step, when).wait(PATIENCE_S) == -signal.SIGKILL
            assert (world.store.aliased("notes") == before) == ((step, when) != ("point_alias", "after"))
            end_building_leases(world)
            after = world.operations.rebuild("notes")
            assert world.store.aliased("notes") == after != before
        finally:
            writer.kill()
            writer.wait()
        world.operations.wait_for("notes", world.put("last"), PATIENCE_S)
    assert world.documents() == in_sql(world)


def test_the_old_index_is_fed_for_a_rollback_until_it_is_pruned(world: World) -> None:
    world.put("a", "1")
    world.catch_up()
    old = world.store.aliased("notes")
    new = world.operations.rebuild("notes")
    assert world.store.aliased("notes") == new != old
    with running(world):
        last = world.put("b", "2")
        world.operations.wait_for("notes", last, PATIENCE_S)
        eventually(lambda: all(s.position >= last for s in world.operations.status() if s.projection == "notes"))
        assert world.operations.rollback("notes") == old
        assert world.documents() == in_sql(world)
        assert world.operations.rollback("notes") == new
        assert world.operations.prune()["indices"] == 1
    with pytest.raises(ProjectionStopped, match="no other index"):
        world.operations.rollback("notes")
    assert world.documents() == in_sql(world)


def test_a_rollback_first_brings_the_index_up_or_says_how_far_it_is_behind(make_world: MakeWorld) -> None:
    old, new = make_world(Notes), make_world(Second)
    old.put("a", "1")
    old.catch_up()
    before = old.store.aliased("notes")
    after = new.operations.rebuild("notes")
    new.put("b", "2")
    new.catch_up()
    with pytest.raises(
        ProjectionStopped, match=r"is 2 positions behind that, and it is fed by the code of version 1 alone"
    ):
        new.operations.rollback("notes")
    assert new.store.aliased("notes") == after
    assert old.operations.rollback("notes") == before
    assert old.documents() == expected_notes(old.bus)


def test_a_rollback_to_an_index_that_is_stopped_is_refused(make_world: MakeWorld) -> None:
    old, new = make_world(Notes), make_world(Second)
    old.put("a", "1")
    old.catch_up()
    after = new.operations.rebuild("notes")
    old.put("b", "poison")
    new.catch_up()

    def refused() -> None:
        with pytest.raises(
            ProjectionStopped, match=r"positions behind that, and notes stopped before record .* be digested"
        ):
            old.operations.rollback("notes")
        assert old.store.aliased("notes") == after

    refused()
    with running(old):
        eventually(lambda: "stopped" in {status.state for status in old.operations.status()})
        refused()


def restored(world: World) -> tuple[str, str]:
    """The index that holds what a restored journal never knew, and the one of the rebuild that is then asked for."""
    world.put("a", "kept")
    world.catch_up("notes")
    wrong = world.store.aliased("notes")
    assert wrong
    world.store.write_many(wrong, [Write("lost", world.bus.journal.last() + 1, b'{"text":"lost"}')])
    world.put("c", "new")
    with pytest.raises(NeedsRebuild, match="restored from an older state; run `actionbus projections rebuild notes`"):
        world.catch_up("notes")
    return wrong, world.operations.rebuild("notes")


def test_after_a_restore_the_rebuilt_index_is_fed_and_no_way_leads_back(world: World) -> None:
    _, right = restored(world)
    position = world.put("d", "later")
    assert world.catch_up("notes")["notes"] >= position
    assert world.documents() == in_sql(world)
    told = {status.role: status for status in world.operations.status() if status.projection == "notes"}
    assert told["serving"].state == "idle"
    assert told["kept"].state == "stopped"
    assert "`actionbus projections prune` removes this one" in str(told["kept"].detail["message"])
    with pytest.raises(
        ProjectionStopped, match=r"no other index of notes to go back to; the index .* holds documents up to"
    ):
        world.operations.rollback("notes")
    with running(world):
        world.operations.wait_for("notes", world.put("e", "later"), PATIENCE_S)
    assert world.operations.prune()["indices"] == 1
    assert world.store.indices("notes") == [right]
    assert world.documents() == in_sql(world)


def test_while_readers_see_what_is_not_of_this_journal_prune_keeps_the_one_that_is(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, right = restored(world)
    world.store.point_alias("notes", wrong)
    assert world.operations.prune() == {"indices": 0, "tombstones": 0}
    assert "nothing is removed" in caplog.text
    assert world.operations.rollback("notes") == right
    assert world.documents() == in_sql(world)


def test_what_is_of_another_version_of_the_code_is_all_that_prune_sees_and_it_removes_none(
    make_world: MakeWorld,
) -> None:
    old, new = make_world(Notes), make_world(Second)
    old.put("a", "1")
    old.catch_up()
    new.operations.rebuild("notes")
    assert old.operations.prune()["indices"] == 0
    assert new.operations.prune()["indices"] == 1


class Second(Notes):
    """The same, in another version, which digests everything."""

    name = "notes"
    version = 2

    @on("put_note", key="note")
    def put(self, document: Any, record: Any) -> Any:
        """New or changed."""
        return {"text": "second"}


def test_a_new_version_is_tried_out_document_by_document(make_world: MakeWorld) -> None:
    old = make_world(Notes)
    old.put("same", "x")
    old.put("other", "y")
    old.put("old only", "z")
    old.catch_up("notes")

    class Tried(Notes):
        name = "notes"
        version = 2

        @on("put_note", key="note")
        def put(self, document: Any, record: Any) -> Any:
            if record.arguments["note"] == "old only":
                return None
            plain = {"text": record.arguments["text"], "number": 0, "changes": 0, "shelves": []}
            return plain if record.arguments["note"] != "other" else {**plain, "text": "Y"}

        @on(
            "put_note",
            key=lambda record: f"copy of {record.arguments['note']}" if record.arguments["text"] == "x" else [],
        )
        def copied(self, document: Any, record: Any) -> Any:
            return {"text": "copy"}

    new = make_world(Tried)
    before = old.documents()
    found = {each.key: each for each in new.operations.differences("notes")}
    assert {key: each.change for key, each in found.items()} == {
        "other": "change",
        "old only": "remove",
        "copy of same": "add",
    }
    assert found["other"].before is not None
    assert found["other"].after is not None
    assert (found["other"].before["text"], found["other"].after["text"]) == ("y", "Y")
    assert old.documents() == before
    assert len(new.store.indices("notes")) == 1


def test_a_rebuild_that_would_be_wrong_is_not_swapped_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        world.put(f"n{number}", "text")
    world.catch_up("notes")
    served = world.store.aliased("notes")
    original = type(world.store).finish_loading

    def spoil(self: Any, index: str) -> None:
        there = self.get_many(index, ["n3"])["n3"].version
        self.write_many(index, [Write("n3", there, b'{"text":"spoilt"}', mends=True)])
        original(self, index)

    monkeypatch.setattr(type(world.store), "finish_loading", spoil)
    with pytest.raises(ProjectionStopped, match="differs from the journal at the document 'n3'"):
        world.operations.rebuild("notes")
    assert world.store.aliased("notes") == served

    def lose(self: Any, index: str) -> None:
        self.write_many(index, [Write("n3", 10**9, None, "2026-01-01T00:00:00+00:00")])
        original(self, index)

    world.operations.prune()
    monkeypatch.setattr(type(world.store), "finish_loading", lose)
    with pytest.raises(ProjectionStopped, match=r"not swapped in: .* has 4 documents, and 5 were written to it"):
        world.operations.rebuild("notes")
    assert world.store.aliased("notes") == served


def test_poison_stops_a_rebuild_and_leaves_what_readers_see(make_world: MakeWorld) -> None:
    world = make_world(Notes)
    world.put("a", "1")
    world.catch_up()
    world.put("b", "poison")
    with pytest.raises(ProjectionStopped, match="cannot be digested"):
        world.operations.rebuild("notes")
    assert set(world.documents()) == {"a"}


def test_prune_clears_old_tombstones_and_remembers_how_far(world: World) -> None:
    from datetime import timedelta

    world.put("a", "1")
    gone = world.drop("a")
    world.put("b", "1")
    world.catch_up("notes")
    assert world.operations.prune()["tombstones"] == 0
    assert world.operations.prune(timedelta(0))["tombstones"] == 1
    index = world.store.aliased("notes")
    assert index
    assert dict(world.store.scan(index, tombstones=True)).keys() == {"b"}
    assert world.store.info(index).pruned_to == gone
    world.catch_up("notes")
    assert world.documents() == in_sql(world)


def test_a_foreign_index_is_refused(world: World) -> None:
    world.put("a")
    world.catch_up("notes")
    index = world.store.aliased("notes")
    assert index
    world.store.delete_index(index)
    world.store.create_index(IndexInfo(index, "notes", 1, "another journal"), Notes.mappings, {}, loading=False)
    world.store.point_alias("notes", index)
    world.put("b")
    with pytest.raises(ProjectionStopped, match="fed from another journal"):
        world.catch_up("notes")
    world.store.delete_index(index)
    with pytest.raises(ProjectionStopped, match="is not in"):
        world.catch_up("notes")
    world.operations.rebuild("notes")
    assert world.documents() == in_sql(world)
