"""The projector: folds, stops, goes on, tells where it is."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import create_engine, text

from actionbus import ActionBusError
from actionbus.projections import IndexBusy, Lagging, NeedsRebuild, Projection, ProjectionStopped, Projector, on
from actionbus.projections.claim import Claim
from actionbus.projections.feeder import Feeder
from actionbus.projections.store import Store, Write
from tests.helpers import abandon
from tests.projections.conftest import MakeWorld, World
from tests.projections.notes.app import Notes, expected_notes
from tests.projections.running import running, start_projector
from tests.projections.waiting import PATIENCE_S, Calls, end_leases, eventually


def test_records_become_documents(world: World) -> None:
    for number in range(30):
        world.put(f"n{number % 10}", f"text {number}", number, "s1", f"s{number % 3}")
    world.drop("n3")
    world.drop("n4")
    last = world.put("n4", "again")
    with pytest.raises(ValueError, match="as asked"):
        world.bus.execute("put_note", {"note": "x", "text": "fail"}, actor="ben")
    with pytest.raises(ActionBusError):
        world.bus.execute("put_note", {}, actor="ben")
    reached = world.catch_up()
    assert min(reached.values()) >= last
    assert world.documents() == expected_notes(world.bus)
    assert set(world.documents("shelves")) == {"shelf s0", "shelf s1", "shelf s2"}
    assert world.documents("shelves")["shelf s0"] == {"notes": sorted(f"n{n}" for n in range(10))}
    assert world.documents("refusals") == {"ben": {"statuses": ["failed", "rejected"]}}
    assert world.store.get("notes", "n3") is None


def test_several_records_of_a_document_are_one_write_and_none_if_nothing_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Write] = []
    original = type(world.store).write_many

    def spy(self: Store, index: str, writes: list[Write]) -> list[Write]:
        written.extend(writes)
        return original(self, index, writes)

    monkeypatch.setattr(type(world.store), "write_many", spy)
    for number in range(20):
        world.put("one", str(number))
    world.catch_up("notes")
    assert len(written) == 1
    assert written[0].version == world.bus.journal.settled()


def test_nested_actions_are_folded_if_they_came_to_stay(world: World) -> None:
    world.bus.execute("put_two", {"first": "a", "second": "b"})
    with pytest.raises(ValueError, match="neither"):
        world.bus.execute("put_two", {"first": "c", "second": "d", "fail": True})
    world.catch_up("notes")
    assert set(world.documents()) == {"a", "b"}
    assert world.documents() == expected_notes(world.bus)


def test_a_batch_absorbed_twice_changes_nothing(world: World) -> None:
    """The checkpoint is set back by hand, as if the process had died between writing and noting it."""
    world.put("a", "1")
    world.put("b", "1")
    world.catch_up("notes")
    before = world.operations.status()[0].position
    world.put("c", "new")
    world.put("c", "changed")
    world.drop("c")
    world.put("a", "2")
    world.drop("b")
    world.catch_up("notes")
    after = world.documents()
    with world.bus.engine.begin() as connection:
        connection.execute(text("UPDATE actionbus_checkpoints SET position = :to"), {"to": before})
    world.catch_up("notes")
    assert world.documents() == after == {"a": {"text": "2", "number": 0, "changes": 1, "shelves": []}}
    row = next(status for status in world.operations.status() if status.projection == "notes")
    assert row.position == world.bus.journal.settled()


def test_a_late_write_of_a_projector_that_was_held_up_is_outranked(world: World) -> None:
    """A document that was added and deleted in one batch leaves a tombstone, so that it cannot come back."""
    first = world.put("ghost", "boo")
    world.drop("ghost")
    world.catch_up("notes")
    index = world.store.aliased("notes")
    assert index
    world.store.write_many(index, [Write("ghost", first, b'{"text":"boo"}')])
    assert world.documents() == {}


def test_a_record_that_cannot_be_absorbed_stops_its_projection_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = Calls(monkeypatch, Feeder, "step")
    world.put("a", "1", 0, "s")
    bad = world.put("b", "poison", 0, "s")
    last = world.put("c", "3", 0, "s")
    with running(world):
        world.operations.wait_for("shelves", last, PATIENCE_S)
        eventually(lambda: world.operations.status()[0].state == "stopped")
        stopped = world.operations.status()[0]
        assert stopped.detail["position"] == bad
        assert stopped.detail["document"] == "b"
        assert "cannot be digested" in stopped.detail["error"]
        assert "RuntimeError" in stopped.detail["traceback"]
        assert stopped.position == bad - 1
        assert not stopped.healthy
        assert stopped.alive
        assert set(world.documents()) == {"a"}
        with pytest.raises(ProjectionStopped, match="cannot be digested"):
            world.operations.wait_for("notes", last, PATIENCE_S)
        with pytest.raises(ValueError, match="not stopped by record 999"):
            world.operations.skip("notes", 999)
        assert world.operations.retry("notes") == 1
        tries.more(1, lambda answer: isinstance(answer, ProjectionStopped))
        assert world.operations.status()[0].state == "stopped"
        outcome = world.operations.skip("notes", bad, actor="operator")
        world.operations.wait_for("notes", outcome, PATIENCE_S)
    assert set(world.documents()) == {"a", "c"}
    decision = world.bus.journal.get(outcome.action_id)
    assert decision is not None
    assert decision.actor == "operator"
    assert decision.result == {"projection": "notes", "of_version": 1, "position": bad}
    world.operations.rebuild("notes")
    assert set(world.documents()) == {"a", "c"}


def test_retry_after_a_fix_goes_on(make_world: MakeWorld) -> None:
    world = make_world()
    world.put("a", "poison")
    with pytest.raises(ProjectionStopped):
        world.catch_up("notes")

    class Mended(Projection):
        name = "notes"

        @on("put_note", key="note")
        def put(self, document: object, record: object) -> dict[str, object]:
            return {"text": "mended"}

    mended = make_world(Mended)
    mended.catch_up()
    assert mended.documents() == {"a": {"text": "mended"}}


def test_of_two_projectors_one_works_and_the_other_takes_over(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = Calls(monkeypatch, Claim, "acquire")
    one, other = make_world(), make_world()
    one.put("a", "1")
    with running(one) as stop_first:
        one.operations.wait_for("notes", one.put("a", "2"), PATIENCE_S)
        with running(other):
            claims.more(2, lambda answer: answer is False)
            rows = [status for status in other.operations.status() if status.projection == "notes"]
            assert len(rows) == 1
            with pytest.raises(IndexBusy):
                other.catch_up("notes")
            stop_first.set()
            other.operations.wait_for("notes", other.put("a", "3"), PATIENCE_S)
    assert other.documents() == expected_notes(other.bus)


def test_fed_once_after_a_projector_was_killed_its_lease_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", "1")
    world.catch_up("notes")
    ledger = world.operations._catalogue.ledger
    monkeypatch.setattr("actionbus.projections.ledger.LEASE_S", 0.5)
    assert ledger.take(ledger.checkpoints("notes")[0], "somebody killed", steal=True)
    world.put("b", "2")
    world.catch_up("notes")
    assert world.documents() == expected_notes(world.bus)


def test_where_the_clock_was_set_back_by_an_hour_nothing_is_held_or_frozen_for_an_hour(world: World) -> None:
    """Whoever was killed had promised less than a minute, by the clock of then."""
    world.put("a", "1")
    world.catch_up("notes")
    ledger = world.operations._catalogue.ledger
    assert ledger.take(ledger.checkpoints("notes")[0], "somebody killed", steal=True)
    assert world.operations.status()[0].alive
    with world.bus.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE actionbus_checkpoints SET alive_until = alive_until + 3600")
    ledger.freeze(ledger.checkpoints("notes")[0].index_name, 3600)
    assert not world.operations.status()[0].alive
    world.put("b", "2")
    world.catch_up("notes")
    assert world.documents() == expected_notes(world.bus)
    assert not ledger.is_frozen_for(ledger.checkpoints("notes")[0].index_name, 0)


def test_slices_share_the_documents(make_world: MakeWorld) -> None:
    worlds = [make_world(Notes) for _ in range(3)]
    for number in range(60):
        worlds[0].put(f"n{number % 25}", str(number))
    with running(worlds[0], part=1, parts=3), running(worlds[1], part=2, parts=3):
        eventually(lambda: len(worlds[0].operations.status()) == 3)
        last = worlds[0].put("n1", "last")

        def late() -> list[str]:
            return [status.slice for status in worlds[0].operations.status() if status.position < last]

        eventually(lambda: late() == ["3/3"])
        with pytest.raises(Lagging):
            worlds[0].operations.wait_for("notes", last, 0)
        some = len(worlds[0].documents())
        assert 0 < some < 25
        with running(worlds[2], part=3, parts=3):
            worlds[0].operations.wait_for("notes", last, PATIENCE_S)
    assert worlds[0].documents() == expected_notes(worlds[0].bus)
    end_leases(worlds[0].bus.engine)
    worlds[0].put("n2", "by one alone")
    worlds[0].catch_up("notes")
    assert worlds[0].documents() == expected_notes(worlds[0].bus)


def test_wait_for_says_who_is_missing(world: World) -> None:
    position = world.put("a")
    with pytest.raises(Lagging, match="is `actionbus projections run` running"):
        world.operations.wait_for("notes", position, 0)
    with pytest.raises(ActionBusError, match="there are: notes, refusals, shelves"):
        world.operations.wait_for("nothing", position)


def test_a_caller_reads_its_own_writes(world: World) -> None:
    with running(world):
        for number in range(10):
            outcome = world.bus.execute("put_note", {"note": "mine", "text": f"word{number}"})
            world.operations.wait_for("notes", outcome, PATIENCE_S, refresh=True)
            index = world.store.aliased("notes")
            assert index
            found = dict(world.store.scan(index))
            assert found["mine"].document is not None
            assert found["mine"].document["text"] == f"word{number}"


def test_status_tells_lag_and_life(world: World) -> None:
    fresh = world.operations.status()
    assert [status.state for status in fresh] == ["new", "new", "new"]
    for number in range(5):
        world.put(f"n{number}")
    world.catch_up()
    world.put("late")
    status = world.operations.status()[0]
    assert (status.lag_positions, status.alive, status.state) == (2, False, "idle")
    eventually(lambda: world.operations.status()[0].lag_seconds > status.lag_seconds)
    assert not status.healthy
    with running(world):
        eventually(lambda: all(s.healthy and s.lag_positions == 0 for s in world.operations.status()))
        assert {s.role for s in world.operations.status()} == {"serving"}
    assert not any(s.alive for s in world.operations.status())


def test_a_new_version_waits_for_its_rebuild(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_world(Notes)
    old.put("a", "1")
    old.catch_up()

    class Renewed(Notes):
        name = "notes"
        version = 2

        @on("put_note", key="note")
        def put(self, document: object, record: object) -> dict[str, object]:
            return {"text": "second"}

    new = make_world(Renewed)
    with pytest.raises(
        NeedsRebuild, match="at version 1 and the code says 2; run `actionbus projections rebuild notes`"
    ):
        new.catch_up()
    assert new.operations.status()[0].state == "outdated"
    looks = Calls(monkeypatch, Projector, "_fed")
    with running(new):
        looks.more(3)
        assert old.documents() == expected_notes(old.bus)
    new.operations.rebuild("notes")
    assert new.documents() == {"a": {"text": "second"}}
    assert [s.state for s in new.operations.status() if s.role == "serving"] == ["idle"]


def test_at_a_hole_the_status_says_who_holds_it(make_real_world: MakeWorld) -> None:
    world = make_real_world(Notes)
    world.put("a")
    engine = create_engine(world.url)
    with running(world):
        world.operations.wait_for("notes", world.put("b"), PATIENCE_S)
        with engine.connect() as writer:
            writer.execute(
                text(
                    "INSERT INTO journal (action_id, kind, action, correlation_id, arguments) "
                    "VALUES (gen_random_uuid(), 'submitted', 'x', 'c', '{}')"
                )
            )
            position = world.put("c")
            eventually(lambda: world.operations.status()[0].state == "held")
            assert "process" in str(world.operations.status()[0].detail["waiting_for"])
            writer.rollback()
        world.operations.wait_for("notes", position, PATIENCE_S)
    engine.dispose()


def test_holes_for_good_hold_nobody_up_though_somebody_always_writes(make_real_world: MakeWorld) -> None:
    """Two writers that overlap and roll back: there is never a moment at which nobody holds the journal's lock."""
    world = make_real_world(Notes)
    engine = create_engine(world.url)
    over = threading.Event()

    def hold(delay: float) -> None:
        over.wait(delay)
        while not over.is_set():
            with engine.connect() as writer:
                writer.execute(
                    text(
                        "INSERT INTO journal (action_id, kind, action, correlation_id, arguments) "
                        "VALUES (gen_random_uuid(), 'submitted', 'x', 'c', '{}')"
                    )
                )
                over.wait(0.3)
                writer.rollback()

    holders = [threading.Thread(target=hold, args=(delay,)) for delay in (0, 0.1, 0.2)]
    for holder in holders:
        holder.start()
    try:
        with running(world):
            for number in range(5):
                world.operations.wait_for("notes", world.put(f"n{number}"), PATIENCE_S)
    finally:
        over.set()
        for holder in holders:
            holder.join()
        engine.dispose()
    assert world.documents() == expected_notes(world.bus)


@pytest.mark.early
def test_a_dead_projectors_place_is_taken(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make_world(Notes), make_world(Notes)
    claims = Calls(monkeypatch, Claim, "acquire")
    first = start_projector(one)
    try:
        one.operations.wait_for("notes", one.put("a"), PATIENCE_S)
        with running(other):
            claims.more(1, lambda answer: answer is False)
            first.kill()
            first.wait()
            other.operations.wait_for("notes", other.put("b"), PATIENCE_S)
    finally:
        first.kill()
        first.wait()


def test_a_projector_recovers_what_died_meanwhile(world: World) -> None:
    """No worker need run for that; nor is anybody to ask."""
    died = abandon(world.bus)
    stop = threading.Event()
    running = threading.Thread(target=Projector(world.bus, world.store).run, args=[stop])
    running.start()
    try:
        eventually(lambda: world.bus.journal.outcome(died))
    finally:
        stop.set()
        running.join()
    outcome = world.bus.journal.outcome(died)
    assert outcome is not None
    assert outcome.status == "interrupted"
