"""Which servers one client serves: Elasticsearch 8.19 as well as 9, several nodes, and nothing that is none at all."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actionbus import Bus
from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.elasticsearch_client import hosts_of, options_of
from actionbus.adapters.wiring import store_for
from actionbus.projections import Projections, Projector
from actionbus.projections.errors import StoreUnavailable, StoreUnsuitable
from actionbus.projections.store import Search
from tests import other_servers
from tests.projections.conftest import MakeWorld, World
from tests.projections.notes.app import Notes, expected_notes, make_application
from tests.projections.running import running
from tests.projections.waiting import PATIENCE_S
from tests.servers import free_port

NAMES = ("USER", "PASSWORD", "API_KEY", "CA_CERTS", "CLIENT_CERT", "CLIENT_KEY", "FINGERPRINT", "TIMEOUT")


def asked(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}{path}") as answer:
        return json.loads(answer.read() or "null")


@pytest.fixture
def notes(postgres_url: Any) -> Iterator[Bus]:
    bus = Bus(make_application(Notes), postgres_url)
    bus.create()
    for number in range(3):
        bus.execute("put_note", {"note": f"n{number}", "text": "some text", "number": 1, "shelves": []})
    bus.execute("drop_note", {"note": "n0"})
    yield bus
    bus.close()


@pytest.mark.early
def test_the_default_client_serves_elasticsearch_8(notes: Bus) -> None:
    with other_servers.elasticsearch_8() as url:
        store = ElasticsearchStore(url, timeout=30)
        world = World(notes.engine.url, notes, store, url, Projections(notes, store))
        world.catch_up()
        assert world.documents() == expected_notes(notes)
        assert store.search("notes", Search("text")).total == 2
        world.operations.rebuild("notes")
        world.put("n1", "changed")
        world.catch_up()
        assert list(world.operations.differences("notes")) == []
        world.operations.rollback("notes")
        assert world.documents() == expected_notes(notes)
        assert world.operations.prune()["indices"] == 1
        store.close()


@pytest.mark.early
def test_what_is_not_elasticsearch_is_told_before_anything_is_made_there(notes: Bus) -> None:
    with other_servers.opensearch() as url:
        before = asked(url, "/_cat/indices?format=json"), asked(url, "/_index_template")
        store = ElasticsearchStore(url, timeout=30)
        with pytest.raises(
            StoreUnsuitable, match=r"is not Elasticsearch .*actionbus needs Elasticsearch 8.19 or later"
        ):
            Projector(notes, store).catch_up()
        operations = Projections(notes, store)
        (status,) = operations.status()
        assert (status.state, status.healthy) == ("stopped", False)
        assert "is not Elasticsearch" in status.detail["message"]
        with pytest.raises(StoreUnsuitable):
            operations.rebuild("notes")
        with pytest.raises(StoreUnsuitable):
            store.search("notes", Search("text"))
        assert (asked(url, "/_cat/indices?format=json"), asked(url, "/_index_template")) == before
        store.close()


def test_a_node_that_is_gone_is_no_outage_while_another_answers(
    make_real_world: MakeWorld, elasticsearch_url: str
) -> None:
    made = make_real_world(Notes)
    where = f"http://127.0.0.1:{free_port()} , {elasticsearch_url},http://127.0.0.1:{free_port()}"
    store = ElasticsearchStore(where, timeout=10)
    world = World(made.url, made.bus, store, where, Projections(made.bus, store))
    with running(world):
        for number in range(5):
            world.operations.wait_for("notes", world.put(f"n{number}", "text"), PATIENCE_S, refresh=True)
            assert store.get("notes", f"n{number}")
            assert store.search("notes", Search("text")).total == number + 1
        assert world.operations.status()[0].healthy
    assert world.documents() == expected_notes(world.bus)
    store.close()


def test_a_store_that_never_answered_is_told_of_with_what_to_do(notes: Bus) -> None:
    store = ElasticsearchStore(f"http://127.0.0.1:{free_port()}", timeout=1)
    (status,) = Projections(notes, store).status()
    assert (status.state, status.reason) == ("waiting", "store")
    assert re.search(r"does not answer; it is tried again by itself: .*cannot be reached", status.detail["message"])
    with pytest.raises(StoreUnavailable):
        Projector(notes, store).catch_up()
    store.close()


def test_settings_of_connections_reach_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"ACTIONBUS_ELASTICSEARCH_{name}", raising=False)
    assert options_of({}) == {}
    told = {"USER": "ana", "PASSWORD": "p@ss:/ö", "FINGERPRINT": "ab:cd", "TIMEOUT": "7.5"}
    found = options_of({f"ACTIONBUS_ELASTICSEARCH_{name}": value for name, value in told.items()})
    assert found == {"basic_auth": ("ana", "p@ss:/ö"), "ssl_assert_fingerprint": "ab:cd", "timeout": 7.5}
    for wrong, why in (
        ({"USER": "ana"}, "PASSWORD is not"),
        ({"PASSWORD": "x"}, "USER is not"),
        ({"TIMEOUT": "soon"}, "'soon'"),
        ({"TIMEOUT": "-1"}, "seconds"),
        ({"USER": "a", "PASSWORD": "b", "API_KEY": "c"}, "exclude each other"),
    ):
        with pytest.raises(ValueError, match=why):
            options_of({f"ACTIONBUS_ELASTICSEARCH_{name}": value for name, value in wrong.items()})
    for wrong_hosts in ("", " , ", "search.example:9200", "http://a:9200,ftp://b:9200"):
        with pytest.raises(ValueError, match="node"):
            hosts_of(wrong_hosts)
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_CA_CERTS", str(tmp_path / "missing.pem"))
    with pytest.raises(ValueError, match=r"there is no file .*missing.pem', which was given as ca_certs"):
        store_for(None, where="https://search.example:9200")  # type: ignore[arg-type]


def test_a_password_is_told_to_nobody() -> None:
    store = ElasticsearchStore("http://ana:secret@a:9200,http://ana:secret@b:9200")
    assert store.describe() == "Elasticsearch at a:9200, b:9200"
    with pytest.raises(ValueError, match="'a:9200' is not the URL of a node") as caught:
        hosts_of("ana:secret@a:9200")
    assert "secret" not in str(caught.value)
    store.close()
