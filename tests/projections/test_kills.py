"""Projector and Elasticsearch are killed at random moments, and Elasticsearch is ill in every way we could think of."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.local_elasticsearch.server import LocalServer
from actionbus.projections import Projections, Projector, StoreUnavailable, on
from actionbus.projections.ledger import Ledger
from actionbus.projections.store import StoredDocument, Write
from tests.conftest import TORTURE
from tests.projections.conftest import MakeWorld, World
from tests.projections.notes.app import Notes, expected_notes
from tests.projections.running import running, start_projector
from tests.projections.scribbling import in_sql, scribble
from tests.projections.waiting import PATIENCE_S, Calls, end_leases, eventually
from tests.servers import Server

PROJECTOR_KILLS = 100 if TORTURE else 2
ELASTICSEARCH_KILLS = 20 if TORTURE else 1


def test_a_projector_killed_at_random_moments_leaves_the_documents_of_a_plain_fold(make_world: MakeWorld) -> None:
    world = make_world(Notes)
    chance = random.Random(1)
    last = 0
    for number in range(PROJECTOR_KILLS):
        process = start_projector(world, str(chance.choice([1, 3, 17, 1000])))
        try:
            world.operations.wait_for("notes", world.put(f"first {number}"), PATIENCE_S)  # it works
            last = scribble(world.bus, chance, chance.randrange(1, 120))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            end_leases(world.bus.engine)
    with running(world):
        world.operations.wait_for("notes", last, PATIENCE_S)
    assert world.documents() == in_sql(world)


@pytest.mark.skipif(
    "ACTIONBUS_TEST_ELASTICSEARCH_URL" in os.environ, reason="a server of one's own is needed to kill it"
)
def test_elasticsearch_killed_at_random_moments(make_real_world: MakeWorld, elasticsearch_server: LocalServer) -> None:
    world = make_real_world(Notes)
    chance = random.Random(2)
    last = world.put("first")
    with running(world):
        world.operations.wait_for("notes", last, PATIENCE_S)
        for _ in range(ELASTICSEARCH_KILLS):
            scribble(world.bus, chance, chance.randrange(1, 80))
            elasticsearch_server.kill()
            last = scribble(world.bus, chance, 20)
            eventually(lambda: world.operations.status()[0].state == "waiting")
            elasticsearch_server.start()
            world.operations.wait_for("notes", last, PATIENCE_S)
    assert world.documents() == in_sql(world)


@pytest.mark.skipif("ACTIONBUS_TEST_DATABASE_URL" in os.environ, reason="a server of one's own is needed to kill it")
@pytest.mark.parametrize("moment", ["intend", "absorbed"])
def test_postgresql_killed_after_a_batch_was_read(
    make_real_world: MakeWorld, server: Server, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before the batch's first write, or after its last: nothing is lost, nothing is ahead of the database."""
    world = make_real_world(Notes)
    last = scribble(world.bus, random.Random(3), 30)
    original = getattr(Ledger, moment)
    killed: list[int] = []

    def kill_first(self: Ledger, *arguments: Any) -> Any:
        if not killed:
            killed.append(1)
            server.kill()
            server.start()
        return original(self, *arguments)

    monkeypatch.setattr(Ledger, moment, kill_first)
    with running(world):
        eventually(lambda: bool(killed))
        wait_through(lambda: world.operations.wait_for("notes", last, PATIENCE_S))
        last = scribble(world.bus, random.Random(4), 30)
        world.operations.wait_for("notes", last, PATIENCE_S)
    assert world.documents() == in_sql(world)


def wait_through(condition: Callable[[], object], seconds: float = 60) -> None:
    """Try again while the database comes back."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            condition()
            return
        except SQLAlchemyError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_delete_stays_one_after_elasticsearch_has_forgotten_its_version(make_real_world: MakeWorld) -> None:
    """A batch with add, change and delete was written, its process held up; it comes again after `index.gc_deletes`.

    How long that takes is told by a document beside it, deleted as we do not: an older write brings it back.
    """

    class Quick(Notes):
        name = "notes"
        settings = {"gc_deletes": "1s"}

    world = make_real_world(Quick)
    assert isinstance(world.store, ElasticsearchStore)
    first = world.put("ghost", "added")
    world.put("ghost", "changed")
    world.drop("ghost")
    last = world.put("other", "x")
    world.catch_up("notes")
    index = world.store.aliased("notes")
    assert index
    world.store.write_many(index, [Write("plain", 10, b"{}")])
    world.store.client.delete(index=index, id="plain", version=11, version_type="external")

    def is_forgotten() -> bool:
        assert world.store.get_many(index, ["plain"]) == {}
        pushed = 10**6 + len(pushes)
        pushes.append(pushed)
        for _ in range(2):
            world.store.write_many(index, [Write("pusher", pushed, b"{}")])
            world.store.refresh(index)
        world.store.write_many(index, [Write("plain", 9, b"{}")])
        return "plain" in world.store.get_many(index, ["plain"])

    pushes: list[int] = []
    eventually(is_forgotten)
    world.store.write_many(index, [Write("ghost", first, b'{"text":"added"}')])
    assert world.store.get_many(index, ["ghost"]) == {"ghost": StoredDocument(last - 2, None)}


def ill(world: World, make_it: Callable[[Any, str], None], cure: Callable[[Any, str], None], state: str) -> None:
    """Make Elasticsearch ill while a projector runs, see its state, cure it, see the projector go on by itself."""
    assert isinstance(world.store, ElasticsearchStore)
    client = world.store.client
    with running(world):
        world.operations.wait_for("notes", world.put("before", "1"), PATIENCE_S)
        index = world.store.aliased("notes")
        assert index
        make_it(client, index)
        for number in range(5):
            last = world.put(f"during {number}", "2")
        eventually(lambda: world.operations.status()[0].state == state)
        status = world.operations.status()[0]
        assert status.detail, "it says why"
        assert not status.healthy
        cure(client, index)
        eventually(lambda: world.operations.status()[0].position >= last)  # tried again by itself, stopped or not


def _setting(name: str, value: object) -> Callable[[Any, str], None]:
    return lambda client, index: client.indices.put_settings(index=index, settings={f"index.{name}": value})


@pytest.mark.parametrize("block", ["blocks.write", "blocks.read_only", "blocks.read_only_allow_delete"])
def test_a_read_only_or_full_index_is_waited_for(make_real_world: MakeWorld, block: str) -> None:
    """`read_only_allow_delete` is what Elasticsearch sets at the flood stage of a full disk."""
    world = make_real_world(Notes)
    ill(world, _setting(block, True), _setting(block, False), "waiting")
    assert world.documents() == in_sql(world)


def test_a_document_that_the_mapping_refuses_stops_and_goes_on_when_the_mapping_takes_it(
    make_real_world: MakeWorld,
) -> None:
    class Growing(Notes):
        name = "notes"

        @on("put_note", key="note")
        def put(self, document: Any, record: Any) -> Any:
            given = {"text": record.arguments["text"], "number": 0, "changes": 0, "shelves": []}
            return given | ({"unmapped": "x"} if record.arguments["text"] == "2" else {})

    world = make_real_world(Growing)

    def cure(client: Any, index: str) -> None:
        client.indices.put_mapping(index=index, properties={"unmapped": {"type": "keyword"}})

    ill(world, lambda client, index: None, cure, "stopped")
    known = expected_notes(world.bus)  # a plain fold, which knows nothing of the field
    grown = {key: note | ({"unmapped": "x"} if key != "before" else {}) for key, note in known.items()}
    assert world.documents() == grown


@pytest.mark.early
@pytest.mark.skipif(
    "ACTIONBUS_TEST_ELASTICSEARCH_URL" in os.environ, reason="a server of one's own is needed to stop it"
)
def test_a_slow_elasticsearch_is_waited_for(make_real_world: MakeWorld, elasticsearch_server: LocalServer) -> None:
    made = make_real_world(Notes)
    store = ElasticsearchStore(made.store_at, timeout=1)
    world = World(made.url, made.bus, store, made.store_at, Projections(made.bus, store))
    pid = elasticsearch_server.pid()
    assert pid

    def stop(client: Any, index: str) -> None:
        os.kill(pid, signal.SIGSTOP)

    def go_on(client: Any, index: str) -> None:
        os.kill(pid, signal.SIGCONT)

    try:
        ill(world, stop, go_on, "waiting")
        assert made.documents() == in_sql(made)
    finally:
        os.kill(pid, signal.SIGCONT)
        store.close()


def test_a_store_that_is_not_there_is_waited_for(make_real_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_real_world(Notes)
    store = ElasticsearchStore("http://127.0.0.1:1", timeout=1)
    world = World(made.url, made.bus, store, "", Projections(made.bus, store))
    last = world.put("a")
    looks = Calls(monkeypatch, Projector, "_fed")
    with running(world):
        looks.more(2, lambda answer: isinstance(answer, StoreUnavailable))
    assert world.operations.status()[0].lag_positions > 0
    store.close()
    with running(made):
        made.operations.wait_for("notes", last, PATIENCE_S)
    assert made.documents() == in_sql(made)


def test_a_late_write_conjures_no_index_up(make_real_world: MakeWorld) -> None:
    from actionbus.projections.errors import IndexMissing

    world = make_real_world(Notes)
    world.put("a")
    world.catch_up()
    index = world.store.aliased("notes")
    assert index
    world.store.delete_index(index)
    with pytest.raises(IndexMissing):
        world.store.write_many(index, [Write("a", 10**6, b"{}")])
    assert world.store.indices("notes") == []
