"""Processes that the tests kill: a projector, a rebuild, a writer. Each takes the database's and the store's address."""

from __future__ import annotations

import os
import random
import signal
import threading
from datetime import timedelta
from typing import Literal

from sqlalchemy import create_engine

from actionbus import Bus
from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.projections import Projections, Projector
from actionbus.projections.store import Store
from tests.projections.faults import Faults, faulty_operations, faulty_store
from tests.projections.faults import projector as faulty_projector
from tests.projections.notes.app import Notes, make_application


def _store(url: str, where: str) -> Store:
    return EmbeddedStore(create_engine(url)) if where == "embedded" else ElasticsearchStore(where, timeout=10)


def project(url: str, where: str, batch: str = "1000") -> None:
    """A projector, until it is killed."""
    bus = Bus(make_application(Notes), url)
    Projector(bus, _store(url, where), batch=int(batch)).run(threading.Event())


def first_start(url: str, where: str, step: str, when: Literal["before", "after"]) -> None:
    """A first start that kills itself before or after a step."""
    bus = Bus(make_application(Notes), url)
    faulty_projector(bus, _store(url, where), Faults(step, when, _kill), Notes).catch_up()


def rebuild(url: str, where: str, step: str = "", when: Literal["before", "after"] = "before") -> None:
    """One rebuild of the notes, which may kill itself before or after a step."""
    bus = Bus(make_application(Notes), url)
    Projections(bus, faulty_store(_store(url, where), Faults(step, when, _kill))).rebuild("notes")


STEPS = {
    "rebuild": {
        "add",
        "create_index",
        "take",
        "intend",
        "write_many",
        "absorbed",
        "finish_loading",
        "freeze",
        "point_alias",
        "set_built",
    },
    "rollback": {"freeze", "point_alias"},
    "prune": {"remove", "delete_index", "set_pruned_to", "clear_tombstones"},
}
"""What is done by each of them, one after the other."""


def cut_off(url: str, where: str, name: str, step: str, when: Literal["before", "after"]) -> None:
    """A rebuild, a rollback or a prune that kills itself before or after a step."""
    bus = Bus(make_application(Notes), url)
    operations = faulty_operations(bus, _store(url, where), Faults(step, when, _kill))
    if name == "prune":
        operations.prune(timedelta(0))
    else:
        getattr(operations, name)("notes")


def _kill(_: Exception) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write(url: str, seed: str) -> None:
    """Puts and drops notes, until it is killed."""
    chance = random.Random(int(seed))
    bus = Bus(make_application(Notes), url)
    while True:
        note = f"n{chance.randrange(40)}"
        if chance.random() < 0.3:
            bus.execute("drop_note", {"note": note})
        else:
            bus.execute("put_note", {"note": note, "text": str(chance.random()), "number": chance.randrange(9)})
