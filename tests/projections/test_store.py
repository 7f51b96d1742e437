"""Every store of ours keeps the contract, and what Elasticsearch and PostgreSQL need besides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import ApiError
from sqlalchemy import create_engine

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.testing.search_contract import INDEX, MAPPINGS, write
from actionbus.contracts import StoreContract
from actionbus.projections import Projection
from actionbus.projections.errors import (
    DocumentsRefused,
    IndexMissing,
    QueryRefused,
    StoreRefused,
    StoreUnavailable,
    UnknownProjection,
)
from actionbus.projections.search import START, PageEnd, Search, cursor, place_of
from actionbus.projections.store import Store
from actionbus.search import EsRepo


class Things(Projection):
    """What the index of these tests is mapped as."""

    mappings = MAPPINGS


class Others(Things):
    """Of another application."""


class TestStore(StoreContract):
    """Each store of ours."""

    @pytest.mark.parametrize(
        "name", ["_seq_no", "_id", "_index", "actionbus.position", "actionbus", "nosuch", "*", "", "title", "a\nb"]
    )
    def test_no_field_that_the_mapping_does_not_declare_is_filtered_or_counted_by(
        self, searchable: Store, name: str
    ) -> None:
        repo = EsRepo(searchable, [Things])
        for asked in ({"filters": {name: "1"}}, {"facets": [name]}):
            with pytest.raises(QueryRefused, match=r"things has no field .* there are: at, kind, n, tags, x, yes"):
                repo.search("things", **asked)  # type: ignore[arg-type]
        assert repo.search("things", filters={"n": 1}, facets=["kind"]).facets == {"kind": {"icon": 1}}

    def test_no_name_but_of_a_projection_or_an_index_of_the_applications_own_is_read(self, searchable: Store) -> None:
        for repo in (EsRepo(searchable, [Things]), EsRepo(searchable)):
            repo.put("own_things", "k", {"title": "a face of our own"}, 1)
            searchable.refresh(str(searchable.aliased("own_things")))
            assert repo.get("things", "1") is not None
            assert repo.search("own_things", "FACE").total == 1
            for name in (
                "_all",
                "*",
                "things,things",
                "thing*",
                "",
                "-things",
                "<things>",
                "things/_search",
                INDEX.name,
            ):
                for read in (repo.search, lambda name, repo=repo: repo.get(name, "1")):
                    with pytest.raises(UnknownProjection):
                        read(name)
        with pytest.raises(UnknownProjection):
            EsRepo(searchable, [Others]).search("things")


def test_what_a_search_is_refused_for_names_the_projection(elasticsearch_store: Store) -> None:
    elasticsearch_store.create_index(INDEX, MAPPINGS, {}, loading=False)
    elasticsearch_store.point_alias("things", INDEX.name)
    with pytest.raises(QueryRefused, match=r"\[things\]") as caught:
        elasticsearch_store.search("things", Search(facets=("title",)))
    assert INDEX.name not in str(caught.value)


def test_a_document_that_does_not_fit_is_refused_and_the_others_are_taken(
    elasticsearch_store: Store,
) -> None:
    elasticsearch_store.create_index(INDEX, MAPPINGS, {}, loading=False)
    with pytest.raises(DocumentsRefused) as caught:
        elasticsearch_store.write_many(INDEX.name, [write("1", 1, n=1), write("2", 2, n="x"), write("3", 3, zz=1)])
    assert [(key, version) for key, version, _ in caught.value.refused] == [("2", 2), ("3", 3)]
    assert set(elasticsearch_store.get_many(INDEX.name, ["1", "2", "3"])) == {"1"}


BIG = "x" * 300_000


def refuse(store: ElasticsearchStore, monkeypatch: pytest.MonkeyPatch, status: int, above: int = 0) -> list[int]:
    """Let a node, or a proxy before it, refuse bulks of more bytes than that; the sizes of all that were sent."""
    original = store.client.perform_request
    sent: list[int] = []

    def limited(method: str, path: str, **more: Any) -> Any:
        if "_bulk" in path:
            sent.append(len(more["body"]))
            if sent[-1] > above:
                meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "localhost", 9200))
                raise ApiError("", meta, {})
        return original(method, path, **more)

    monkeypatch.setattr(store.client, "perform_request", limited)
    return sent


@pytest.mark.parametrize("status", [413, 429])
def test_a_document_too_big_for_a_request_is_refused_alone_and_bulks_that_were_too_big_are_taken(
    elasticsearch_store: ElasticsearchStore, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    elasticsearch_store.create_index(INDEX, MAPPINGS, {}, loading=False)
    refuse(elasticsearch_store, monkeypatch, status, above=200_000)
    writes = [write(str(number), number, title=BIG[:50_000]) for number in range(1, 12)]
    writes[7] = write("big", 8, title=BIG)
    with pytest.raises(DocumentsRefused, match=rf"{status}.* \(alone, with 300,\d+ bytes\)") as caught:
        elasticsearch_store.write_many(INDEX.name, writes)
    assert [(key, version) for key, version, _ in caught.value.refused] == [("big", 8)]
    assert dict(elasticsearch_store.scan(INDEX.name)).keys() == {str(n) for n in range(1, 12)} - {"8"}


@pytest.mark.parametrize(("status", "error"), [(429, StoreUnavailable), (400, StoreRefused)])
def test_a_node_that_takes_no_bulk_at_all_refuses_no_document_and_is_not_asked_again_and_again(
    elasticsearch_store: ElasticsearchStore, monkeypatch: pytest.MonkeyPatch, status: int, error: type[Exception]
) -> None:
    elasticsearch_store.create_index(INDEX, MAPPINGS, {}, loading=False)
    sent = refuse(elasticsearch_store, monkeypatch, status)
    with pytest.raises(error, match=str(status)):
        elasticsearch_store.write_many(INDEX.name, [write(str(number), number) for number in range(1, 100)])
    assert len(sent) == 2


def test_no_bulk_is_greater_than_its_bound_but_for_one_document(
    elasticsearch_store: ElasticsearchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actionbus.adapters.elasticsearch_bulk._BULK_BYTES", 100_000)
    elasticsearch_store.create_index(INDEX, MAPPINGS, {}, loading=False)
    sent: list[bytes] = []
    original = elasticsearch_store.client.perform_request

    def noted(method: str, path: str, **more: Any) -> Any:
        sent.append(more["body"])
        return original(method, path, **more)

    monkeypatch.setattr(elasticsearch_store.client, "perform_request", noted)
    sizes = (10_000, 60_000, 90_000, 200_000, 5_000, 5_000)
    writes = [write(str(at), at, title=BIG[:size]) for at, size in enumerate(sizes, 1)]
    elasticsearch_store.write_many(INDEX.name, writes)
    assert [body.count(b"\n") // 2 for body in sent] == [2, 1, 1, 2]


def test_more_words_than_postgresql_indexes_are_a_refused_document(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    store = EmbeddedStore(engine)
    store.create_index(INDEX, MAPPINGS, {}, loading=False)
    words = " ".join(f"word{number}" for number in range(150_000))
    with pytest.raises(DocumentsRefused, match="tsvector") as caught:
        store.write_many(INDEX.name, [write("1", 1, title="a"), write("big", 2, title=words), write("3", 3, title="c")])
    assert [key for key, _, _ in caught.value.refused] == ["big"]
    assert dict(store.scan(INDEX.name)).keys() == {"1", "3"}
    engine.dispose()


def test_an_index_that_is_not_ours_is_none(elasticsearch_store: ElasticsearchStore) -> None:
    elasticsearch_store.client.index(index="secrets", id="1", document={"title": "red"}, refresh=True)
    for read in (lambda repo: repo.search("secrets", "red"), lambda repo: repo.get("secrets", "1")):
        with pytest.raises(IndexMissing, match="no index of actionbus"):
            read(EsRepo(elasticsearch_store))


def test_a_cursor_made_up_for_another_index_shows_nothing_of_it(elasticsearch_store: ElasticsearchStore) -> None:
    """A point in time says itself of which index it is, so whoever has one could read anything through it."""
    store = elasticsearch_store
    store.create_index(INDEX, MAPPINGS, {}, loading=False)
    store.point_alias("things", INDEX.name)
    store.client.index(index="secrets", id="1", document={"title": "red"}, refresh=True)
    foreign = store.client.open_point_in_time(index="secrets", keep_alive="1m").body["id"]
    asked = Search("red", after=START)
    made_up = cursor(asked, "things", PageEnd([9.0, -1], 1, f"{INDEX.name}/{foreign}"))
    assert store.search("things", replace(asked, after=made_up)).hits == []


def test_a_point_in_time_that_is_gone_is_a_refused_cursor(elasticsearch_store: ElasticsearchStore) -> None:
    store = elasticsearch_store
    store.create_index(INDEX, MAPPINGS, {}, loading=False)
    store.point_alias("things", INDEX.name)
    store.write_many(INDEX.name, [write(str(at), at, title="red") for at in range(1, 4)])
    store.refresh(INDEX.name)
    asked = Search("red", limit=1, after=START)
    given = store.search("things", asked).next
    place = place_of(replace(asked, after=given), "things")
    assert place is not None
    store.client.close_point_in_time(id=place.store.partition("/")[2])
    with pytest.raises(QueryRefused, match="expired"):
        store.search("things", replace(asked, after=given))


def test_no_point_in_time_is_left_open_by_pages_that_were_read_to_the_end(
    elasticsearch_store: ElasticsearchStore,
) -> None:
    store = elasticsearch_store
    store.create_index(INDEX, MAPPINGS, {}, loading=False)
    store.point_alias("things", INDEX.name)
    store.write_many(INDEX.name, [write(str(at), at, title="red") for at in range(1, 4)])
    store.refresh(INDEX.name)

    def opened() -> int:
        nodes = store.client.nodes.stats(metric="indices", index_metric="search").body["nodes"].values()
        return sum(node["indices"]["search"]["open_contexts"] for node in nodes)

    before, after = opened(), START
    while after:
        after = store.search("things", Search("red", limit=2, after=after)).next or ""
    assert opened() == before


@pytest.mark.parametrize("filters", [["lowercase"], None])
def test_an_applications_own_analysis_is_left_alone_and_a_server_without_the_filter_is_none_the_worse(
    elasticsearch_store: ElasticsearchStore, monkeypatch: pytest.MonkeyPatch, filters: list[str] | None
) -> None:
    own = {"type": "custom", "tokenizer": "standard", "filter": filters}
    settings = {"analysis": {"analyzer": {"default": own}}} if filters else {}
    monkeypatch.setattr("actionbus.adapters.elasticsearch_analysis.FOLDING", "asciifolding" if filters else "nosuch")
    elasticsearch_store.create_index(INDEX, MAPPINGS, settings, loading=False)
    elasticsearch_store.point_alias("things", INDEX.name)
    elasticsearch_store.write_many(INDEX.name, [write("1", 1, title="München")])
    elasticsearch_store.refresh(INDEX.name)
    assert elasticsearch_store.search("things", Search("MÜNCHEN")).total == 1
    assert elasticsearch_store.search("things", Search("munchen")).total == 0
