"""An index that lost what it had acknowledged is found out: at start, while it is fed, and before it is written to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import ApiError, TransportError

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.local_elasticsearch.server import LocalServer
from actionbus.projections import NeedsRebuild
from actionbus.projections.errors import StoreUnavailable
from actionbus.projections.store import Search, Write
from tests.projections.conftest import MakeWorld, World
from tests.projections.notes.app import Notes, expected_notes
from tests.projections.running import running
from tests.projections.waiting import PATIENCE_S, eventually

OWN_SERVER = pytest.mark.skipif(
    "ACTIONBUS_TEST_ELASTICSEARCH_URL" in os.environ, reason="a server of one's own is needed to kill it"
)


def client_of(world: World) -> Any:
    assert isinstance(world.store, ElasticsearchStore)
    return world.store.client


def lose_the_last(world: World, index: str) -> None:
    client_of(world).delete(index=index, id="n4", refresh=True)


def lose_one_in_the_middle(world: World, index: str) -> None:
    client_of(world).delete(index=index, id="n2", refresh=True)


def bring_an_older_version_back(world: World, index: str) -> None:
    client = client_of(world)
    client.delete(index=index, id="n2", refresh=True)
    client.index(index=index, id="n2", refresh=True, document={"text": "old", "actionbus": {"position": 1}})


@pytest.mark.parametrize("lose", [lose_the_last, lose_one_in_the_middle, bring_an_older_version_back])
def test_an_index_that_does_not_hold_what_was_written_is_found_out_when_it_is_fed(
    make_real_world: MakeWorld, lose: Callable[[World, str], None]
) -> None:
    world = make_real_world(Notes)
    for number in range(5):
        world.put(f"n{number}", "text")
    world.drop("n0")
    if lose is lose_the_last:
        world.put("n4", "again")
    world.catch_up()
    index = world.store.aliased("notes")
    assert index
    lose(world, index)
    last = world.put("new", "text")
    with pytest.raises(NeedsRebuild, match="run `actionbus projections rebuild notes`"):
        world.catch_up()
    (status,) = world.operations.status()
    assert (status.state, status.healthy) == ("stopped", False)
    assert status.position < last
    world.operations.rebuild("notes")
    assert world.documents() == expected_notes(world.bus)


@OWN_SERVER
def test_a_data_folder_put_back_to_an_older_copy_is_found_out_by_a_running_projector(
    make_real_world: MakeWorld, elasticsearch_server: LocalServer, tmp_path: Path
) -> None:
    """Restarted between two requests, so that no connection is seen to break."""
    world = make_real_world(Notes)
    data = elasticsearch_server.folder / "data"
    with running(world):
        world.operations.wait_for("notes", world.put("kept", "text"), PATIENCE_S)
        elasticsearch_server.kill()
        shutil.copytree(data, tmp_path / "older")
        elasticsearch_server.start()
        for number in range(5):
            last = world.put(f"lost {number}", "text")
        world.operations.wait_for("notes", last, PATIENCE_S)
        elasticsearch_server.kill()
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "older", data)
        elasticsearch_server.start()
        eventually(lambda: world.operations.status()[0].state == "stopped")
        assert "fallen behind" in world.operations.status()[0].detail["message"]
        world.operations.rebuild("notes")
        world.operations.wait_for("notes", world.put("later", "text"), PATIENCE_S)
    assert world.documents() == expected_notes(world.bus)


@pytest.mark.parametrize(
    "settings",
    [
        {"translog": {"durability": "async"}},
        {"index.translog.durability": "ASYNC"},
        {"index": {"translog.durability": "async"}},
    ],
)
def test_an_index_that_may_lose_what_it_acknowledged_cannot_be_declared(settings: dict[str, Any]) -> None:
    class Careless(Notes):
        name = "notes"

    Careless.settings = settings
    assert any("translog.durability" in why for why in Careless.problems({"put_note", "drop_note"}))


def test_an_index_that_somebody_made_careless_is_not_fed(make_real_world: MakeWorld) -> None:
    world = make_real_world(Notes)
    world.put("a", "text")
    world.catch_up()
    index = world.store.aliased("notes")
    client_of(world).indices.put_settings(index=index, settings={"index.translog.durability": "async"})
    with pytest.raises(NeedsRebuild, match="must be request"):
        world.catch_up()
    client_of(world).indices.put_settings(index=index, settings={"index.translog.durability": "request"})
    world.catch_up()


def test_a_template_of_the_organisation_is_kept_to_but_for_what_would_lose_documents(
    make_real_world: MakeWorld,
) -> None:
    """Its shards and refresh interval hold for our index; its durability does not. And no template of ours stays."""
    world = make_real_world(Notes)
    client = client_of(world)
    client.indices.put_index_template(
        name="of-the-organisation",
        index_patterns=["notes*"],
        priority=10,
        template={"settings": {"number_of_shards": 2, "refresh_interval": "7s", "translog.durability": "async"}},
    )
    try:
        world.put("a", "text")
        world.catch_up()
        index = str(world.store.aliased("notes"))
        for _ in range(2):
            found = client.indices.get_settings(index=index, flat_settings=True).body[index]["settings"]
            assert found["index.number_of_shards"] == "2"
            assert found["index.refresh_interval"] == "7s"
            assert found["index.translog.durability"] == "request"
            index = world.operations.rebuild("notes")
    finally:
        client.indices.delete_index_template(name="of-the-organisation")
    assert [
        each["name"] for each in client.indices.get_index_template().body["index_templates"] if "notes" in str(each)
    ] == []


@pytest.mark.early
@OWN_SERVER
def test_no_part_of_an_answer_is_handed_out_as_the_whole(
    make_real_world: MakeWorld, elasticsearch_server: LocalServer
) -> None:
    """Of three shards one is gone with its disk."""

    class Wide(Notes):
        name = "notes"
        settings = {"number_of_shards": 3}

    world = make_real_world(Wide)
    for number in range(12):
        world.put(f"n{number}", "text")
    world.drop("n0")
    world.catch_up()
    store, client, index = world.store, client_of(world), str(world.store.aliased("notes"))
    store.refresh(index)
    asked: dict[str, Callable[[ElasticsearchStore], Any]] = {
        "search": lambda store: store.search("notes", Search("text")),
        "totals": lambda store: store.totals(index),
        "scan": lambda store: list(store.scan(index)),
        "sample": lambda store: store.sample(index, 5),
        "greatest_tombstone": lambda store: store.greatest_tombstone(index, 10**9, "2100-01-01"),
        "clear_tombstones": lambda store: store.clear_tombstones(index, 10**9, "2000-01-01"),
        "get_many": lambda store: store.get_many(index, [f"n{number}" for number in range(12)]),
    }
    for ask in asked.values():
        ask(store)
    uuid = client.indices.get_settings(index=index, flat_settings=True).body[index]["settings"]["index.uuid"]
    (shard,) = elasticsearch_server.folder.glob(f"data/**/{uuid}/0")
    for part in ("index", "translog"):
        shutil.rmtree(shard / part)

    def is_lost() -> bool:
        with suppress(ApiError, TransportError):  # it notices when it writes
            for number in range(12):
                client.options(request_timeout=1, max_retries=0).delete(index=index, id=f"n{number}", timeout="100ms")
        return bool(client.cluster.health(index=index).body["active_primary_shards"] == 2)

    eventually(is_lost)
    hasty = ElasticsearchStore(str(elasticsearch_server.url()), timeout=1.0)  # a refresh waits
    for name, ask in asked.items():
        with pytest.raises(StoreUnavailable):
            print(name, ask(hasty))
    hasty.close()


def test_an_index_that_was_restored_without_its_aliases_is_written_to_again(make_real_world: MakeWorld) -> None:
    world = make_real_world(Notes)
    world.put("a", "text")
    world.catch_up()
    index = str(world.store.aliased("notes"))
    client_of(world).indices.delete_alias(index=index, name=f"{index}-writes")
    world.put("b", "text")
    world.catch_up()
    assert world.documents() == expected_notes(world.bus)


def test_after_a_tombstone_was_cleared_the_very_next_record_is_taken(make_real_world: MakeWorld) -> None:
    """Its version is the next after the tombstone's; Elasticsearch remembers that of a delete for a minute."""
    world = make_real_world(Notes)
    world.put("a", "text")
    gone = world.drop("a")
    world.catch_up()
    world.operations.prune(timedelta(0))
    index = str(world.store.aliased("notes"))
    assert world.store.write_many(index, [Write("a", gone + 1, b'{"text":"back"}')]) == []
    assert world.store.get("notes", "a") == {"text": "back"}


def test_an_alias_of_each_index_keeps_late_writes_from_making_it_anew(make_real_world: MakeWorld) -> None:
    world = make_real_world(Notes)
    world.put("a", "text")
    world.catch_up()
    index = str(world.store.aliased("notes"))
    assert world.store.write_many(index, [Write("a", 1, b"{}")])[0].key == "a"
    assert list(client_of(world).indices.get(index="*", expand_wildcards="open").body) == [index]
