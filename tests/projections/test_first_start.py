"""The first start of a projection, cut off at every step: the next start goes on."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from itertools import product

import pytest
from sqlalchemy.exc import SQLAlchemyError

from actionbus.projections import StoreUnavailable
from tests import processes
from tests.conftest import TORTURE
from tests.projections.conftest import MakeWorld, World, on_worlds_in_turn
from tests.projections.faults import Faults, When, projector
from tests.projections.notes.app import Notes
from tests.projections.scribbling import in_sql
from tests.projections.waiting import end_leases

STEPS_OF_ENSURE = ("checkpoints", "aliased", "add", "create_index", "point_alias", "set_built")


def start_anew(world: World) -> None:
    """Nothing was ever projected."""
    for row in world.operations._catalogue.ledger.checkpoints():
        world.operations._catalogue.ledger.remove(row.index_name)
    for index in world.store.indices("notes"):
        world.store.delete_index(index)


def goes_on(world: World) -> None:
    """The next start, once the lease of the one that was cut off has run out (on SQLite)."""
    end_leases(world.bus.engine)
    world.catch_up("notes")
    assert world.documents() == in_sql(world)
    (status,) = world.operations.status()
    assert (status.role, status.state, status.lag_positions) == ("serving", "idle", 0), status.detail
    assert world.store.indices("notes") == [status.index]


@on_worlds_in_turn("when", ["before", "after"])
def test_left_without_an_answer_at_any_step_of_the_first_start_the_next_start_goes_on(
    make_world: MakeWorld, when: When
) -> None:
    world = make_world(Notes)
    for number in range(3):
        world.put(f"n{number}", "text")
    world.drop("n1")
    broken: list[str] = []

    def cut_off(at: int | str) -> Faults:
        faults = Faults(at, when)
        with suppress(StoreUnavailable, SQLAlchemyError):
            projector(world.bus, world.store, faults, Notes).catch_up()
        goes_on(world)
        start_anew(world)
        return faults

    whole = cut_off(0).calls
    for at in range(1, 100) if TORTURE else dict.fromkeys(whole):
        faults = cut_off(at)
        if not faults.happened:
            break
        broken.append(at if isinstance(at, str) else faults.calls[at - 1])
    assert set(STEPS_OF_ENSURE) <= set(broken), "every step was cut off once"
    assert len(broken) < 99


@on_worlds_in_turn(("when", "step"), product(["before", "after"], ["create_index", "point_alias", "set_built"]))
def test_a_first_start_that_was_cut_off_goes_on_in_a_newer_version_too(
    make_world: MakeWorld, step: str, when: When
) -> None:
    """Up to the moment when readers see an index: from then on a rebuild takes its place, as ever."""

    class Renewed(Notes):
        name = "notes"
        version = 2

    old, new = make_world(Notes), make_world(Renewed)
    old.put("a", "text")
    with pytest.raises((StoreUnavailable, SQLAlchemyError)):
        projector(old.bus, old.store, Faults(step, when), Notes).catch_up()
    if old.store.aliased("notes") is not None:
        new.operations.rebuild("notes")
        new.operations.prune()
    goes_on(new)


FIRST = "import sys; from tests.projections.kills import first_start; first_start(*sys.argv[1:])"


@pytest.mark.parametrize("when", ["before", "after"] if TORTURE else ["after"])
@pytest.mark.parametrize("step", STEPS_OF_ENSURE if TORTURE else ("add", "create_index", "point_alias"))
def test_killed_in_its_first_start_the_next_start_goes_on(make_world: MakeWorld, step: str, when: When) -> None:
    world = make_world(Notes)
    world.put("a", "text")
    line = [sys.executable, "-c", FIRST, world.url.render_as_string(hide_password=False), world.store_at, step, when]
    killed = processes.run(line, env=os.environ, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    goes_on(world)
