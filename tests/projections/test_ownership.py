"""Nothing is touched that is not ours: indices, aliases and names of others, beside a projection of the same name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.wiring import store_for
from actionbus.projections import NotOurs, Projections, ProjectionStopped, Projector
from actionbus.projections.errors import IndexMissing
from actionbus.projections.rebuild import Rebuild
from actionbus.projections.store import IndexInfo, Store, Write, index_name
from actionbus.search import EsRepo
from tests.projections.conftest import MakeWorld, World, on_worlds_in_turn
from tests.projections.notes.app import Notes, expected_notes
from tests.projections.running import running
from tests.projections.waiting import Calls

FOREIGN = [
    IndexInfo(index_name("notes", 1, "of-another-journal"), "notes", 1, "another journal"),
    IndexInfo(index_name("notes", 1, "of-another-projection"), "others", 1, ""),
    IndexInfo(index_name("notes", 1, "of-nobody"), "", 0, ""),
]
"""Called as ours are; an empty journal stands for our own."""


def kept_twice(world: World) -> str:
    """Documents in an index that is served, and in one that is kept; the kept one."""
    world.put("a", "1")
    world.catch_up()
    kept = world.store.aliased("notes")
    assert kept
    world.operations.rebuild("notes")
    return kept


def make(world: World, info: IndexInfo) -> str:
    """An index with one document."""
    journal = info.journal or (world.bus.journal.identity() if info.projection else "")
    world.store.create_index(IndexInfo(info.name, info.projection, info.version, journal), {}, {}, loading=False)
    world.store.write_many(info.name, [Write("theirs", 1, b'{"title":"theirs"}'), Write("gone", 2, None, "2020-01-01")])
    return info.name


@on_worlds_in_turn("info", FOREIGN)
def test_prune_removes_no_index_that_is_not_of_our_journal_and_projection(world: World, info: IndexInfo) -> None:
    kept = kept_twice(world)
    theirs = make(world, info)
    assert world.operations.prune(timedelta(0))["indices"] == 1, "its own, which nobody reads"
    assert kept not in world.store.indices("notes")
    assert set(world.store.get_many(theirs, ["theirs", "gone"])) == {"theirs", "gone"}
    assert world.documents() == expected_notes(world.bus)


@on_worlds_in_turn("info", FOREIGN)
def test_a_checkpoint_of_an_index_that_is_not_ours_is_forgotten_and_the_index_left_alone(
    world: World, info: IndexInfo
) -> None:
    """As when the database was copied, or the index replaced under its name."""
    kept_twice(world)
    theirs = make(world, info)
    ledger = world.operations._catalogue.ledger
    ledger.add(theirs, "notes", 1, 1, first=False)
    world.operations.prune()
    assert ledger.checkpoints(index=theirs) == []
    assert set(world.store.get_many(theirs, ["theirs"])) == {"theirs"}


@on_worlds_in_turn("info", FOREIGN)
def test_an_unfinished_index_that_turns_out_to_be_anothers_is_not_removed_by_a_rebuild(
    world: World, info: IndexInfo
) -> None:
    kept_twice(world)
    theirs = make(world, info)
    world.operations._catalogue.ledger.add(theirs, "notes", 1, 1, first=False)
    with pytest.raises(ProjectionStopped):
        world.operations.rebuild("notes")
    assert set(world.store.get_many(theirs, ["theirs"])) == {"theirs"}
    world.operations.rebuild("notes")
    assert world.documents() == expected_notes(world.bus)


def tombstones(world: World, name: str = "notes") -> int:
    index = world.store.aliased(name)
    assert index
    return len(dict(world.store.scan(index, tombstones=True))) - len(dict(world.store.scan(index)))


@on_worlds_in_turn("info", FOREIGN)
def test_a_name_that_shows_what_is_not_ours_is_taken_only_on_demand(world: World, info: IndexInfo) -> None:
    kept_twice(world)
    theirs = make(world, info)
    world.store.point_alias("notes", theirs)
    before = sorted(world.store.indices("notes"))
    for refused in (
        lambda: world.operations.rebuild("notes"),
        lambda: world.operations.rollback("notes"),
        lambda: world.catch_up("notes"),
    ):
        with pytest.raises(NotOurs, match="rebuild notes --take-over"):
            refused()
    status = next(each for each in world.operations.status() if each.projection == "notes")
    assert (status.state, status.healthy) == ("stopped", False)
    assert "prefix" in status.detail["message"]
    assert world.operations.prune(timedelta(0)) == {"indices": 0, "tombstones": 0}
    assert (world.store.aliased("notes"), tombstones(world)) == (theirs, 1)
    assert sorted(world.store.indices("notes")) == before
    world.operations.rebuild("notes", take_over=True)
    assert world.documents() == expected_notes(world.bus)
    world.operations.prune()
    assert set(world.store.get_many(theirs, ["theirs"])) == {"theirs"}
    world.put("b", "2")
    world.catch_up()
    assert world.documents() == expected_notes(world.bus)


def test_a_name_that_somebody_takes_while_a_rebuild_goes_on_is_not_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_twice(world)
    original = Rebuild._verify

    def meanwhile(self: Rebuild, *arguments: Any) -> None:
        original(self, *arguments)
        world.store.point_alias("notes", make(world, FOREIGN[0]))

    monkeypatch.setattr(Rebuild, "_verify", meanwhile)
    with pytest.raises(NotOurs):
        world.operations.rebuild("notes")
    assert world.store.aliased("notes") == FOREIGN[0].name


def test_while_readers_see_nothing_of_ours_prune_keeps_what_a_rollback_needs(world: World) -> None:
    kept_twice(world)
    served = world.store.aliased("notes")
    assert served
    world.store.delete_index(served)
    assert world.store.aliased("notes") is None
    assert world.operations.prune()["indices"] == 0
    world.operations.rollback("notes")
    assert world.documents() == expected_notes(world.bus)


# --- on a cluster that others use


Real = Callable[[str], World]


@pytest.fixture
def make_at(make_real_world: MakeWorld, elasticsearch_url: str) -> Iterator[Real]:
    """Worlds whose names in the cluster begin with a prefix."""
    stores: list[Store] = []

    def make(prefix: str) -> World:
        world = make_real_world(Notes)
        stores.append(ElasticsearchStore(elasticsearch_url, timeout=30, prefix=prefix))
        return World(world.url, world.bus, stores[-1], world.store_at, Projections(world.bus, stores[-1]))

    yield make
    for store in stores:
        store.close()


def names(world: World) -> set[str]:
    assert isinstance(world.store, ElasticsearchStore)
    return set(world.store.client.indices.get(index="*", features="aliases").body)


@pytest.mark.parametrize("prefix", ["", "staging-"])
def test_an_index_of_a_users_own_beside_a_projection_is_left_alone_and_may_be_made_by_writing(
    make_at: Real, prefix: str
) -> None:
    world = make_at(prefix)
    kept_twice(world)
    assert isinstance(world.store, ElasticsearchStore)
    client = world.store.client
    own = {f"{prefix}{name}" for name in ("notes-vendors", "notes-v1", "notes-v1-2026.01.01", "notes-v2ray", "notes2")}
    for name in own:
        client.index(index=name, id="1", document={"title": "theirs"}, refresh=True)
    world.operations.prune(timedelta(0))
    world.operations.rebuild("notes")
    world.operations.prune(timedelta(0))
    for name in own:
        assert client.get(index=name, id="1")["_source"] == {"title": "theirs"}
    ours = world.store.aliased("notes")
    assert ours
    world.store.delete_index(ours)
    with pytest.raises(IndexMissing):
        world.store.write_many(ours, [Write("late", 9, b"{}")])
    assert f"{prefix}{ours}" not in names(world), "a late write conjures no index of ours up"


def test_two_environments_share_a_cluster_by_prefixes(make_at: Real) -> None:
    """Production without one, staging with one, both with the same projection, and indices of their own besides."""
    production, staging = make_at(""), make_at("staging-")
    production.put("a", "production")
    production.catch_up()
    before = names(production)
    production.put("b", "staging")
    repo = EsRepo(staging.store)
    repo.put("own_things", "k", {"n": 1}, version=1)
    with pytest.raises(ProjectionStopped, match=r"is not in Elasticsearch at .* \(names begin with staging-\)"):
        staging.catch_up("notes")  # one database, so its checkpoints are there already
    staging.operations.rebuild("notes")
    with running(staging):
        staging.operations.wait_for("notes", staging.put("c", "staging"), 60)
    staging.operations.rebuild("notes")
    staging.operations.prune(timedelta(0))
    assert staging.documents() == expected_notes(staging.bus)
    assert {name for name in names(staging) if not name.startswith("staging-")} == before
    assert set(production.documents()) == {"a"}
    assert (repo.get("own_things", "k"), repo.search("notes", "staging").total) == ({"n": 1}, 2)
    with pytest.raises(IndexMissing):
        EsRepo(production.store).get("own_things", "k")
    assert staging.store.indices("notes") == [staging.store.aliased("notes")]


def test_an_alias_that_shows_an_index_without_our_prefix_is_not_ours(make_at: Real) -> None:
    """Somebody made `staging-notes` show production's index."""
    production, staging = make_at(""), make_at("staging-")
    production.put("a", "production")
    production.catch_up()
    assert isinstance(production.store, ElasticsearchStore)
    index = production.store.aliased("notes")
    assert index
    production.store.client.indices.put_alias(index=index, name="staging-notes")
    with pytest.raises(NotOurs):
        staging.operations.rebuild("notes")
    staging.operations.rebuild("notes", take_over=True)
    assert staging.documents() == expected_notes(staging.bus)
    assert production.store.aliased("notes") == index
    assert set(production.documents()) == {"a"}


@pytest.mark.parametrize("prefix", ["", "staging-"])
def test_an_index_that_has_a_projections_name_is_found_before_anything_is_made(make_at: Real, prefix: str) -> None:
    """Even if it looks as if it were ours, as a copy of one of ours does."""
    world = make_at(prefix)
    world.put("a", "1")
    assert isinstance(world.store, ElasticsearchStore)
    ours = {"actionbus": {"projection": "notes", "version": 1, "journal": world.bus.journal.identity()}}
    world.store.client.indices.create(index=f"{prefix}notes", mappings={"_meta": ours} if prefix else {})
    before = names(world)
    for refused in (
        lambda: world.catch_up("notes"),
        lambda: world.operations.rebuild("notes"),
        lambda: world.operations.rebuild("notes", take_over=True),
        lambda: world.operations.rollback("notes"),
    ):
        with pytest.raises(NotOurs, match=r"an index that is itself called notes, .* Give this application a prefix"):
            refused()
    assert names(world) == before
    assert world.operations._catalogue.ledger.checkpoints("notes") == []
    assert "prefix" in world.operations.status()[0].detail["message"]
    world.store.client.indices.delete(index=f"{prefix}notes")
    world.catch_up("notes")
    assert world.documents() == expected_notes(world.bus)


def test_the_prefix_comes_from_the_environment_or_as_a_parameter(
    make_at: Real, elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_at("")
    world.put("a", "1")
    made = []
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_PREFIX", "env-")
    for prefix, expected in ((None, "env-notes"), ("given-", "given-notes"), ("", "notes")):
        store = store_for(world.bus.engine, where=elasticsearch_url, prefix=prefix)
        try:
            for row in world.operations._catalogue.ledger.checkpoints():
                world.operations._catalogue.ledger.remove(row.index_name)
            Projector(world.bus, store).catch_up()
            made.append(world.store.client.indices.exists_alias(name=expected).body)  # type: ignore[attr-defined]
        finally:
            store.close()
    assert made == [True, True, True]


@pytest.mark.parametrize("prefix", ["-a", "_a", "A-", "a*", "a,b", "a/b", "ä-", " ", "a" * 51, ".a", "a:b", "a\n"])
def test_a_prefix_that_could_name_something_else_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="cannot begin the names of indices"):
        ElasticsearchStore("http://127.0.0.1:1", prefix=prefix)


def test_a_projector_that_finds_its_name_taken_waits_and_writes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_twice(world)
    theirs = make(world, FOREIGN[0])
    world.store.point_alias("notes", theirs)
    world.put("b", "2")
    looks = Calls(monkeypatch, Projector, "_fed")
    with running(world):
        looks.more(9)
    assert set(world.store.get_many(theirs, ["theirs", "gone", "a", "b"])) == {"theirs", "gone"}
