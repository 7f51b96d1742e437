"""What is wrong with a projection is said when the bus is built; what only shows later, when it folds."""

from __future__ import annotations

import asyncio
import datetime
import math
import random
import sys
import time
import uuid
from typing import Any

import pytest

from actionbus import Bus, ConfigurationError
from actionbus.projections import Projection, ProjectionStopped, on
from actionbus.search import EsRepo
from tests.projections.conftest import MakeWorld, on_worlds_in_turn
from tests.projections.notes.app import Notes, make_application

Document = dict[str, Any]
COUNTER: list[int] = []
STATE = {"n": 0}


def complaint(*projections: type[Projection]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Bus(make_application(*projections), "sqlite://")
    return str(caught.value)


def test_names_come_from_the_class_or_are_given() -> None:
    class KitStatistics(Projection):
        @on("put_note", key="note")
        def put(self, document: Any, record: Any) -> Any: ...

    class Other(Projection):
        name = "another_name"

    assert KitStatistics.name == "kit_statistics"
    assert Other.name == "another_name"
    assert KitStatistics.wanted_actions() == ["put_note"]


def test_mistakes_are_listed() -> None:
    class Wrong(Projection):
        name = "Wrong Name"
        version = 0
        mappings = {"properties": {"actionbus": {"type": "text"}}}

        @on("no_such_action", key="x")
        def one(self, document: Any, record: Any) -> Any: ...

        @on("put_note", key="x", statuses=["succeeded", "vanished"])
        def two(self, document: Any) -> Any: ...

    class Empty(Projection): ...

    told = complaint(Wrong, Empty)
    for part in (
        "'Wrong Name'",
        "version 0",
        "'no_such_action', which there is not",
        "'vanished'",
        "takes 2 parameters",
        "no reducer",
        "'actionbus', which is kept",
    ):
        assert part in told


def _helper() -> float:
    return time.time()


def _now(self: Any, document: Any, record: Any) -> Any:
    return {"at": datetime.datetime.now().isoformat()}


def _time(self: Any, document: Any, record: Any) -> Any:
    return {"at": time.time()}


def _random(self: Any, document: Any, record: Any) -> Any:
    return {"at": random.random()}


def _uuid(self: Any, document: Any, record: Any) -> Any:
    return {"at": str(uuid.uuid4())}


def _open(self: Any, document: Any, record: Any) -> Any:
    with open("/etc/hostname") as file:  # noqa: PTH123 - what is to be refused
        return {"host": file.read()}


def _imports(self: Any, document: Any, record: Any) -> Any:
    import os

    return {"env": os.environ["HOME"]}


def _through_a_helper(self: Any, document: Any, record: Any) -> Any:
    return {"at": _helper()}


def _remembers(self: Any, document: Any, record: Any) -> Any:
    self.last = record
    return {}


def _in_a_lambda(self: Any, document: Any, record: Any) -> Any:
    return {"at": (lambda: time.time())()}


async def _awaits(self: Any, document: Any, record: Any) -> Any:
    return {}


@pytest.mark.parametrize(
    "function",
    [_now, _time, _random, _uuid, _open, _imports, _through_a_helper, _remembers, _in_a_lambda, _awaits],
)
def test_impure_reducers_are_refused(function: Any) -> None:
    class Impure(Projection):
        reduce = on("put_note", key="note")(function)

    assert "is not pure" in complaint(Impure)


def test_an_impure_key_is_refused() -> None:
    class Impure(Projection):
        @on("put_note", key=lambda record: str(uuid.uuid4()))
        def put(self, document: Any, record: Any) -> Any:
            return {}

    assert "key that is not pure" in complaint(Impure)


def test_a_pure_reducer_may_use_dates_helpers_and_constants() -> None:
    class Pure(Projection):
        @on("put_note", key="note")
        def put(self, document: Any, record: Any) -> Any:
            at = datetime.datetime.fromisoformat("2026-01-01")
            return {"at": at + datetime.timedelta(days=len(str(uuid.UUID(int=5)))), "by": sorted({1, 2})}

    Bus(make_application(Pure), "sqlite://").close()


def _mutates(document: Document | None) -> Document:
    if document is None:
        return {"list": []}
    document["list"].append(1)
    return document


def _counts(document: Document | None) -> Document:
    COUNTER.append(1)
    return {"n": len(COUNTER)}


async def _cancelled() -> None:
    raise asyncio.CancelledError


@on_worlds_in_turn(
    ("reduce", "message"),
    [
        (_mutates, "changed the document it was given"),
        (_counts, "gave two documents for one record"),
        (lambda document: [1], "returned a list"),
        (lambda document: {"actionbus": 1}, "kept for positions"),
        (lambda document: {"actionbus.position": 10**15}, "kept for positions"),
        (lambda document: {"x": object()}, "not JSON serializable"),
        (lambda document: {1: 2}, "Dict key must be str"),
        (lambda document: {"n": 2**70}, "Integer exceeds 64-bit range"),
        (lambda document: {"x": [{"y": math.nan, "z": None}]}, "NaN or Infinity"),
        (lambda document: {"x": (-math.inf,)}, "NaN or Infinity"),
        (lambda document: 1 // 0, "ZeroDivisionError"),
        (lambda document: sys.exit(3), "SystemExit: 3"),
        (lambda document: asyncio.run(_cancelled()), "CancelledError"),
    ],
)
def test_what_a_reducer_may_not_do_stops_it_and_leaves_its_documents(
    make_world: MakeWorld, reduce: Any, message: str
) -> None:
    class Bad(Projection):
        @on("put_note", key="note")
        def put(self, document: Any, record: Any) -> Any:
            return {"list": [], "n": 0} if record.arguments["text"] == "good" else reduce(document)

    world = make_world(Bad)
    world.put("a", "good")
    world.put("b", "bad" if reduce is not _mutates else "good")
    position = world.put("b", "bad")
    with pytest.raises(ProjectionStopped, match="bad stopped before record") as caught:
        world.catch_up()
    assert message in str(caught.value)
    assert caught.value.detail["document"] == "b"
    assert world.documents("bad")["a"] == {"list": [], "n": 0}
    if reduce is _mutates:
        assert caught.value.detail["position"] == position
        assert world.documents("bad")["b"] == {"list": [], "n": 0}


def test_what_is_nothing_may_be_null(make_world: MakeWorld) -> None:
    class Sparse(Projection):
        @on("put_note", key="note")
        def put(self, document: Any, record: Any) -> Any:
            return {"none": None, "text": "null", "n": 1.5, "at": record.recorded_at, "by": record.action_id}

    world = make_world(Sparse)
    world.put("a")
    world.catch_up("sparse")
    assert {name: world.documents("sparse")["a"][name] for name in ("none", "text", "n")} == {
        "none": None,
        "text": "null",
        "n": 1.5,
    }


def test_a_key_that_is_not_there_or_not_text_stops_too(make_world: MakeWorld) -> None:
    class Keyless(Projection):
        @on("put_note", key="nothing")
        def put(self, document: Any, record: Any) -> Any:
            return {}

    class Long(Projection):
        @on("put_note", key=lambda record: "x" * 600)
        def put(self, document: Any, record: Any) -> Any:
            return {}

    class Exiting(Projection):
        @on("put_note", key=lambda record: sys.exit(3))
        def put(self, document: Any, record: Any) -> Any:
            return {}

    world = make_world(Keyless, Long, Exiting)
    world.put("a")
    with pytest.raises(
        ProjectionStopped, match="neither result nor arguments of 'put_note' have 'nothing', the document's key"
    ):
        world.catch_up("keyless")
    with pytest.raises(ProjectionStopped, match="512 bytes, not 600"):
        world.catch_up("long")
    with pytest.raises(ProjectionStopped, match="SystemExit: 3"):
        world.catch_up("exiting")


@pytest.mark.parametrize(("part", "told"), [("\0", "contains the NUL character"), ("\ud800", "half of a surrogate")])
@pytest.mark.parametrize("length", [1, 200])
@pytest.mark.parametrize("several", [False, True])
def test_a_key_that_no_store_can_hold_stops_at_its_record_and_names_no_document(
    make_world: MakeWorld, part: str, told: str, length: int, several: bool
) -> None:
    class Unstorable(Projection):
        @on("put_note", key=lambda record: [f"a{part}" * length, "b"] if several else f"a{part}" * length)
        def put(self, document: Any, record: Any) -> Any:
            return {}

    world = make_world(Unstorable)
    first = world.put("a")
    with pytest.raises(ProjectionStopped, match=told):
        world.catch_up()
    assert world.operations.status()[0].state == "stopped"
    assert world.operations.status()[0].detail["position"] == first
    assert EsRepo(world.store).get("unstorable", f"a{part}") is None


def test_notes_is_what_the_other_tests_use() -> None:
    assert Notes.name == "notes"
