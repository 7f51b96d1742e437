"""Documents as they were, folded from the records by the present reducers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actionbus import Record
from actionbus.projections import Projection, ProjectionError, documents_at, on
from tests.helpers import Run
from tests.projections.conftest import PAIRS, MakeWorld, World
from tests.projections.notes.app import Notes


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


@pytest.mark.parametrize("make_world", PAIRS[:2], indirect=True)
def test_documents_are_those_of_the_position_and_say_what_they_rest_on(world: World) -> None:
    first = world.put("a", "one", 1, "x")
    world.put("b", "two")
    world.put("a", "three")
    end = world.drop("b")
    world.catch_up("notes")
    then = documents_at(world.bus.journal, Notes, first)
    assert {key: each["text"] for key, each in then.documents.items()} == {"a": "one"}
    assert (then.basis.position, then.basis.records, then.basis.version) == (first, 1, Notes.version)
    assert documents_at(world.bus.journal, Notes).documents == world.documents("notes")
    assert documents_at(world.bus.journal, Notes, 0).documents == {}
    assert f"folded from 4 records up to position {end}, by the reducers of notes" in str(
        documents_at(world.bus.journal, Notes, end).basis
    )

    class Other(Projection):
        """The same records by other code: it tells other documents of the same past."""

        name = "notes"

        @on("put_note", key="note")
        def put(self, document: Any, record: Record) -> dict[str, Any]:
            return {"shouted": record.arguments["text"].upper()}

    assert documents_at(world.bus.journal, Other, first).documents == {"a": {"shouted": "ONE"}}


@pytest.mark.parametrize("make_world", PAIRS[:1], indirect=True)
def test_a_record_that_a_reducer_refuses_is_named_unless_it_was_skipped(world: World) -> None:
    world.put("a", "fine")
    bad = world.put("b", "poison")
    assert set(documents_at(world.bus.journal, Notes, bad - 1).documents) == {"a"}
    with pytest.raises(ProjectionError, match=f"cannot absorb the record at position {bad}: RuntimeError"):
        documents_at(world.bus.journal, Notes)
    with pytest.raises(ProjectionError):
        world.catch_up("notes")
    world.operations.skip("notes", bad)
    then = documents_at(world.bus.journal, Notes)
    assert set(then.documents) == {"a"}
    assert then.basis.skipped == (bad,)
    assert f"without the skipped ones at {bad}" in str(then.basis)


@pytest.mark.parametrize("make_world", PAIRS[:1], indirect=True)
def test_the_command_shows_them_and_says_whose_code_told(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONBUS_APP", "tests.projections.notes_app:app")
    monkeypatch.setenv("ACTIONBUS_DATABASE_URL", world.url.render_as_string(hide_password=False))
    first = world.put("a", "one")
    world.put("a", "two")
    shown = run("history", "documents", "notes", "--at", str(first), "--json")
    assert [(each["key"], each["document"]["text"]) for each in map(json.loads, shown.stdout.splitlines())] == [
        ("a", "one")
    ]
    assert f"folded from 1 record up to position {first}, by the reducers of notes as the code has them" in " ".join(
        shown.stderr.split()
    )
    assert "two" in run("history", "documents", "notes").stdout
    assert "there is no projection 'nots'; there are: notes" in run("history", "documents", "nots", code=2).stderr
