"""A rebuild, a rollback, a prune and a change of slices, cut off at every step: readers miss nothing, the next goes on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy.exc import SQLAlchemyError

from actionbus.projections import Projections, ProjectionStopped, Projector, StoreUnavailable
from actionbus.projections.ledger import Ledger
from actionbus.projections.store import Store
from tests import processes
from tests.conftest import TORTURE
from tests.projections.conftest import PAIRS, MakeWorld, World
from tests.projections.faults import Faults, When, faulty_operations, projector
from tests.projections.kills import STEPS
from tests.projections.notes.app import Notes
from tests.projections.scribbling import in_sql
from tests.projections.waiting import end_leases

Act = Callable[[Projections], object]

ACTS: dict[str, Act] = {
    "rebuild": lambda operations: operations.rebuild("notes"),
    "rollback": lambda operations: operations.rollback("notes"),
    "prune": lambda operations: operations.prune(timedelta(0)),
}


def prepared(make_world: MakeWorld) -> World:
    """Two indices, of which one is served, and documents of which one was dropped."""
    world = make_world(Notes)
    for number in range(4):
        world.put(f"n{number}", "text")
    world.catch_up()
    world.operations.rebuild("notes")
    world.drop("n0")
    world.put("n1", "changed")
    world.catch_up()
    return world


def readers_miss_nothing(world: World) -> None:
    """At any moment: what they see is some index of ours that has all."""
    assert world.documents() == in_sql(world)


def goes_on(world: World, act: Act) -> None:
    """The same again, then feeding, as if nothing had been; and two indices are there for the next time."""
    end_leases(world.bus.engine)
    with world.bus.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE actionbus_checkpoints SET frozen_until = 0")  # it thaws by itself
    try:
        act(world.operations)
    except ProjectionStopped as error:
        assert "no other index of notes to go back to" in str(error)  # it had been done
    world.put("n2", f"later {world.bus.journal.last()}")
    world.catch_up()
    readers_miss_nothing(world)
    world.operations.prune(timedelta(0))
    assert world.store.indices("notes") == [world.store.aliased("notes")]
    world.operations.rebuild("notes")
    world.drop("n2")
    world.catch_up()


@pytest.mark.parametrize("make_world", PAIRS if TORTURE else PAIRS[:1], indirect=True)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ACTS)
def test_without_an_answer_at_any_step_of_it_nothing_is_lost_and_the_next_goes_on(
    make_world: MakeWorld, name: str, when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = prepared(make_world)
    monkeypatch.setattr("actionbus.projections.rebuild._POLL_S", 0.01)
    if name == "rebuild":
        world.operations.prune()
    broken: list[str] = []

    def cut_off(at: int | str) -> Faults:
        faults = Faults(at, when)
        with suppress(StoreUnavailable, SQLAlchemyError):
            ACTS[name](faulty_operations(world.bus, world.store, faults))
        readers_miss_nothing(world)
        goes_on(world, ACTS[name])
        return faults

    whole = cut_off(0).calls
    for at in range(1, 2 * len(whole)) if TORTURE else dict.fromkeys(whole):
        faults = cut_off(at)
        if not faults.happened:
            break
        broken.append(at if isinstance(at, str) else faults.calls[at - 1])
    assert STEPS[name] <= set(broken), "every step was cut off once"
    assert list(world.operations.differences("notes")) == []


@pytest.mark.parametrize("make_world", PAIRS if TORTURE else PAIRS[:1], indirect=True)
@pytest.mark.parametrize("when", ["before", "after"])
def test_without_an_answer_at_any_step_of_a_change_of_slices_nothing_is_lost(make_world: MakeWorld, when: When) -> None:
    world = prepared(make_world)
    broken: list[str] = []
    parts = 1

    def cut_off(at: int | str) -> Faults:
        nonlocal parts
        faults, parts = Faults(at, when), 3 - parts
        world.put(f"n{len(broken) % 5}", f"before {len(broken)}")
        with suppress(StoreUnavailable, SQLAlchemyError):
            for part in range(1, parts + 1):
                projector(world.bus, world.store, faults, Notes, part=part, parts=parts).catch_up()
        end_leases(world.bus.engine)
        world.put(f"n{len(broken) % 5}", f"after {len(broken)}")
        for part in range(1, parts + 1):
            Projector(world.bus, world.store, part=part, parts=parts).catch_up()
        readers_miss_nothing(world)
        return faults

    whole = cut_off(0).calls + cut_off(0).calls
    for at in range(1, len(whole)) if TORTURE else dict.fromkeys(whole):
        faults = cut_off(at)
        if faults.happened:
            broken.append(at if isinstance(at, str) else faults.calls[at - 1])
    assert {"cut", "intend", "write_many", "absorbed"} <= set(broken)
    world.operations.rebuild("notes")
    readers_miss_nothing(world)


KILLED = "import sys; from tests.projections.kills import cut_off; cut_off(*sys.argv[1:])"


@pytest.mark.parametrize("when", ["before", "after"] if TORTURE else ["after"])
@pytest.mark.parametrize(
    ("name", "step"),
    [(name, step) for name, steps in STEPS.items() for step in sorted(steps)]
    if TORTURE
    else [("rebuild", "point_alias"), ("rollback", "freeze"), ("prune", "delete_index")],
)
def test_killed_at_a_step_nothing_is_lost_and_the_next_goes_on(
    make_real_world: MakeWorld, name: str, step: str, when: When
) -> None:
    world = prepared(make_real_world)
    line = [
        sys.executable,
        "-c",
        KILLED,
        world.url.render_as_string(hide_password=False),
        world.store_at,
        name,
        step,
        when,
    ]
    killed = processes.run(line, env=os.environ, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    readers_miss_nothing(world)
    goes_on(world, ACTS[name])


def test_the_steps_are_those_that_there_are() -> None:
    """Names that no method has would be cut off nowhere."""
    for steps in STEPS.values():
        assert all(hasattr(Ledger, step) or hasattr(Store, step) for step in steps)
