"""What is left of a projection that was renamed, or taken out of the application: it is told of, and can be removed."""

from __future__ import annotations

import pytest

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.projections import IndexBusy, ProjectionError, UnknownProjection
from actionbus.projections.store import IndexInfo
from tests.projections.conftest import MakeWorld
from tests.projections.notes.app import Notes, Shelves
from tests.projections.running import running
from tests.projections.waiting import PATIENCE_S


def test_what_is_left_of_a_projection_is_told_of_and_forgotten_when_it_is_asked_for(make_world: MakeWorld) -> None:
    before, after = make_world(Notes, Shelves), make_world(Shelves)
    before.put("a", "text", 1, "s")
    before.catch_up()
    index = before.store.aliased("notes")
    assert {each.role for each in before.operations.status()} == {"serving"}
    with pytest.raises(ProjectionError, match="the application has the projection notes"):
        before.operations.forget("notes")
    left = [each for each in after.operations.status() if each.role == "left"]
    assert [(each.projection, each.index, each.state, each.healthy) for each in left] == [
        ("notes", index, "idle", True)
    ]
    assert "`actionbus projections forget notes` removes that" in left[0].detail["message"]
    after.operations.prune()
    assert after.store.indices("notes") == [index], "another application may have it"
    with running(before):
        before.operations.wait_for("notes", before.put("b"), PATIENCE_S)
        with pytest.raises(IndexBusy, match="somebody feeds notes"):
            after.operations.forget("notes")
    assert after.operations.forget("notes") == 1
    assert after.store.indices("notes") == []
    assert after.store.aliased("notes") is None
    assert {each.projection for each in after.operations.status()} == {"shelves"}
    with pytest.raises(UnknownProjection, match="nothing is known of a projection 'notes'"):
        after.operations.forget("notes")
    before.catch_up()
    assert set(before.documents()) == {"a", "b"}, "who has it after all begins anew"


def test_nothing_is_forgotten_of_another_journal(make_real_world: MakeWorld) -> None:
    world = make_real_world(Shelves)
    assert isinstance(world.store, ElasticsearchStore)
    info = IndexInfo("notes-v1-actionbus-theirs", "notes", 1, "another journal")
    world.store.create_index(info, {}, {}, loading=False)
    assert world.operations.forget("notes") == 0
    assert world.store.indices("notes") == [info.name]
