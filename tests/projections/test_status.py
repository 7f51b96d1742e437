"""Status says why and what to do, in every state; and what it tells to do helps."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from sqlalchemy import event

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.metrics import ProjectionCollector
from actionbus.projections import NeedsRebuild, ProjectionStopped, Projector, StoreUnavailable
from actionbus.projections.search import Search
from actionbus.projections.status import Status
from tests.projections.conftest import PAIRS, MakeWorld, World
from tests.projections.notes.app import Notes, expected_notes
from tests.projections.running import running
from tests.projections.skipping import stopped_at
from tests.projections.waiting import PATIENCE_S, eventually


def serving(world: World) -> Status:
    (found,) = (status for status in world.operations.status() if status.role == "serving")
    return found


def told(world: World) -> str:
    return str(serving(world).detail.get("message", ""))


def test_an_alias_that_was_removed_is_told_of_and_a_rollback_gives_it_back(make_real_world: MakeWorld) -> None:
    world = make_real_world(Notes)
    assert isinstance(world.store, ElasticsearchStore)
    world.put("a", "text")
    world.catch_up()
    index = world.store.aliased("notes")
    world.store.client.indices.delete_alias(index=str(index), name="notes")
    status = serving(world)
    assert (status.index, status.state, status.reason, status.healthy) == (None, "stopped", "rebuild", False)
    assert "`actionbus projections rebuild notes --rollback` gives the name to the latest index" in told(world)
    assert world.operations.rollback("notes") == index
    assert world.documents() == expected_notes(world.bus)


def test_under_an_alias_given_by_hand_deleted_documents_are_hidden_nevertheless(make_real_world: MakeWorld) -> None:
    world = make_real_world(Notes)
    assert isinstance(world.store, ElasticsearchStore)
    for name in "ab":
        world.put(name, "text")
    world.drop("a")
    world.catch_up()
    index = str(world.store.aliased("notes"))
    world.store.client.indices.delete_alias(index=index, name="notes")
    world.store.client.indices.put_alias(index=index, name="notes")
    for search in (Search(), Search("text"), Search(after="*")):
        found = world.store.search("notes", search)
        assert (found.total, [hit.key for hit in found.hits]) == (1, ["b"])
    assert world.store.get("notes", "a") is None


def test_a_closed_index_is_away_and_no_query_is_blamed(make_real_world: MakeWorld) -> None:
    world = make_real_world(Notes)
    assert isinstance(world.store, ElasticsearchStore)
    world.put("a", "text")
    world.catch_up()
    index = str(world.store.aliased("notes"))
    world.store.client.indices.close(index=index)
    world.put("b", "text")
    for act in (
        lambda: world.store.search("notes", Search("text")),
        lambda: world.store.get("notes", "a"),
        world.catch_up,
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            act()
    world.store.client.indices.open(index=index)
    world.catch_up()
    assert world.documents() == expected_notes(world.bus)


def test_an_index_that_was_removed_is_told_of_while_it_is_fed_and_a_rebuild_makes_another(
    make_real_world: MakeWorld,
) -> None:
    world = make_real_world(Notes)
    with running(world):
        world.operations.wait_for("notes", world.put("a", "text"), PATIENCE_S)
        index = str(world.store.aliased("notes"))
        world.store.delete_index(index)
        world.put("b", "text")
        rows = world.operations._catalogue.ledger
        eventually(lambda: rows.checkpoints("notes")[0].state == "stopped")
        assert "is not in Elasticsearch" in rows.checkpoints("notes")[0].told["message"]
        assert serving(world).state == "stopped"
        assert "`actionbus projections rebuild notes` makes a new one" in told(world)
        assert "--rollback" not in told(world), "it leads nowhere"
        world.operations.rebuild("notes")
        world.operations.wait_for("notes", world.put("c", "text"), PATIENCE_S)
    assert world.documents() == expected_notes(world.bus)


def test_an_index_of_somebody_else_under_that_name_is_told_of(make_real_world: MakeWorld) -> None:
    world = make_real_world(Notes)
    assert isinstance(world.store, ElasticsearchStore)
    world.store.client.indices.create(index="notes")
    world.put("a", "text")
    with pytest.raises(NeedsRebuild):
        world.catch_up()
    assert (serving(world).state, serving(world).reason) == ("stopped", "rebuild")
    assert "has an index that is itself called notes" in told(world)
    assert "ACTIONBUS_ELASTICSEARCH_PREFIX" in told(world)


@pytest.mark.parametrize("make_world", PAIRS[:1], indirect=True)
def test_slices_that_nobody_feeds_and_those_that_do_not_fit_are_told_of(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(Notes)
    world.put("a", "text")
    for part in (1, 2):
        Projector(world.bus, world.store, part=part, parts=2).catch_up()
    statuses = world.operations.status()
    assert [each.detail["message"] for each in statuses] == [
        f"nobody feeds it: `actionbus projections run notes --slices {part}/2` does" for part in (1, 2)
    ]
    assert {each.reason for each in statuses} == {"unfed"}
    with ExitStack() as stack:
        for part in (1, 2):
            stack.enter_context(running(world, part=part, parts=2))
        eventually(lambda: all(each.alive for each in world.operations.status()))
        with pytest.raises(
            ProjectionStopped, match=r"is fed in 2 slices \(1/2, 2/2\), and this process .* --slices N/2"
        ):
            world.catch_up()
        with running(world, part=3, parts=3):
            eventually(lambda: "would feed slice 3 of 3" in caplog.text)


def test_what_is_well_needs_no_word_and_what_is_new_has_one(world: World) -> None:
    assert {each.detail["message"] for each in world.operations.status()} == {
        "nobody has fed it yet: `actionbus projections run` makes its index"
    }
    with running(world):
        world.operations.wait_for("notes", world.put("a"), PATIENCE_S)
        eventually(lambda: all(each.healthy for each in world.operations.status()))
        assert [each.detail for each in world.operations.status()] == [{}] * 3
        assert {each.reason for each in world.operations.status()} == {""}


@pytest.mark.parametrize("make_world", PAIRS[:2], indirect=True)
def test_lag_is_told_without_counting_rows_or_reading_them_all(make_world: MakeWorld) -> None:
    world = make_world(Notes)
    for number in range(20):
        world.put(f"n{number}")
    said: list[str] = []

    @event.listens_for(world.bus.engine, "before_cursor_execute")
    def seen(_c: object, _cursor: object, statement: str, *_more: object) -> None:
        said.append(statement)

    status = serving(world)
    assert status.lag_positions == world.bus.journal.last()
    assert status.lag_seconds > 0
    assert not [each for each in said if "count(" in each.lower()]


@pytest.mark.parametrize("make_world", PAIRS[:1], indirect=True)
def test_metrics_tell_state_and_reason_and_count_what_was_done(make_world: MakeWorld) -> None:
    world = make_world(Notes)

    def counted() -> dict[str, float]:
        families = {each.name: each for each in ProjectionCollector(world.operations).collect()}
        names = ("records", "documents", "bulk_seconds")
        return {name: families[f"actionbus_projection_{name}"].samples[0].value for name in names}

    before = counted()
    stopped_at(world)
    after = counted()
    assert after["records"] - before["records"] == 1
    assert after["documents"] - before["documents"] == 1
    assert after["bulk_seconds"] > before["bulk_seconds"]
    families = {each.name: each for each in ProjectionCollector(world.operations).collect()}
    (sample,) = families["actionbus_projection_state"].samples
    assert (sample.labels["state"], sample.labels["reason"], sample.value) == ("stopped", "record", 1.0)
    assert {*sample.labels} == {"projection", "index", "slice", "role", "state", "reason"}, "none for each record"


def test_an_index_that_cannot_be_made_holds_no_other_up_and_is_told_of(make_real_world: MakeWorld) -> None:
    """It is declared before the other, which is fed nevertheless, all the time and once."""

    class Bad(Notes):
        name = "bad"
        mappings = {"properties": {"text": {"type": "txet"}}}

    class Mended(Notes):
        name = "bad"

    def told_of_it() -> list[tuple[str, str]]:
        found = (each for each in world.operations.status() if each.projection == "bad")
        return [(each.state, str(each.detail.get("message"))) for each in found]

    world = make_real_world(Bad, Notes)
    with running(world):
        world.operations.wait_for("notes", world.put("a"), PATIENCE_S)
        eventually(lambda: {state for state, _ in told_of_it()} == {"stopped"})
        assert all("cannot be made" in message and "[txet]" in message for _, message in told_of_it())
    last = world.put("b")
    with pytest.raises(ProjectionStopped, match=r"the index of bad cannot be made.*\[txet\]"):
        world.catch_up()
    assert world.operations.wait_for("notes", last, 0) >= last
    mended = make_real_world(Mended, Notes)
    mended.catch_up()
    assert mended.documents("bad") == expected_notes(world.bus)
    assert [state for state, _ in told_of_it()] == ["idle"]


def test_an_error_that_nobody_expected_is_shown_and_tried_again(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(Notes)

    def surprise(*_: object) -> None:
        raise ValueError("a surprise")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.store), "write_many", surprise)
        last = world.put("a")
        with running(world):
            eventually(lambda: world.operations.status()[0].state == "waiting")
            found = world.operations.status()[0]
            assert "ValueError: a surprise" in found.detail["message"]
            assert not found.healthy
            patch.undo()
            world.operations.wait_for("notes", last, PATIENCE_S)
    assert world.documents() == expected_notes(world.bus)
