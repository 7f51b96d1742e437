"""One contract for every store."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import ApiError
from sqlalchemy import create_engine

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.projections import Projection
from actionbus.projections.errors import DocumentsRefused, IndexMissing, QueryRefused, StoreRefused, StoreUnavailable
from actionbus.projections.store import IndexInfo, Search, Store, Stored, Write
from actionbus.search import EsRepo

MAPPINGS = {"dynamic": "strict", "properties": {
    "title": {"type": "text"}, "names": {"type": "text"}, "tags": {"type": "keyword"}, "kind": {"type": "keyword"},
    "n": {"type": "long"}, "yes": {"type": "boolean"}}}  # fmt: skip
INDEX = IndexInfo("things-v1-actionbus-a", "things", 1, "journal-1")


def write(key: str, version: int, **document: Any) -> Write:
    return Write(key, version, orjson.dumps(document))


def tombstone(key: str, version: int, at: str = "2026-01-01T00:00:00+00:00") -> Write:
    return Write(key, version, None, at)


@pytest.fixture
def index(store: Store) -> str:
    store.create_index(INDEX, MAPPINGS, {}, loading=False)
    store.point_alias("things", INDEX.name)
    return INDEX.name


def test_documents_come_back_as_they_went_with_their_versions(store: Store, index: str) -> None:
    document = {"title": "Größe 🙂 \0 \"'", "tags": ["a", "b"], "n": 2**53, "yes": False, "kind": None}
    store.write_many(index, [write("k/1 ü", 7, **document), write("2", 8), tombstone("3", 9)])
    assert store.get_many(index, ["k/1 ü", "2", "3", "4"]) == {
        "k/1 ü": Stored(7, document), "2": Stored(8, {}), "3": Stored(9, None)}  # fmt: skip
    assert store.get("things", "k/1 ü") == document
    assert store.get("things", "3") is None
    assert store.get("things", "4") is None
    assert store.highest_version(index) == 9
    assert store.count(index) == 2
    assert dict(store.scan(index)) == {"k/1 ü": Stored(7, document), "2": Stored(8, {})}
    assert len(dict(store.scan(index, tombstones=True))) == 3
    assert set(store.sample(index, 10)) == {"k/1 ü", "2"}


def test_only_a_greater_version_is_taken_a_deleted_document_has_one_too(store: Store, index: str) -> None:
    store.write_many(index, [write("1", 5, n=5)])
    store.write_many(index, [write("1", 4, n=4), write("2", 4, n=4)])
    store.write_many(index, [write("1", 5, n=0)])
    store.write_many(index, [tombstone("1", 3)])
    assert store.get_many(index, ["1", "2"]) == {"1": Stored(5, {"n": 5}), "2": Stored(4, {"n": 4})}
    store.write_many(index, [tombstone("1", 6)])
    store.write_many(index, [write("1", 5, n=5), write("1", 6, n=6)])
    assert store.get_many(index, ["1"]) == {"1": Stored(6, None)}
    store.write_many(index, [write("1", 7, n=7)])
    assert store.get_many(index, ["1"]) == {"1": Stored(7, {"n": 7})}


def test_many_at_once(store: Store, index: str) -> None:
    store.write_many(index, [write(str(number), number + 1, n=number) for number in range(2500)])
    found = store.get_many(index, [str(number) for number in range(2500)])
    assert len(found) == 2500
    assert found["2400"] == Stored(2401, {"n": 2400})
    store.refresh(index)
    assert sum(1 for _ in store.scan(index)) == 2500
    assert store.count(index) == 2500


def test_an_index_is_created_once_and_tells_what_it_is(store: Store, index: str) -> None:
    store.create_index(INDEX, MAPPINGS, {}, loading=False)
    assert store.info(index) == INDEX
    store.set_pruned_to(index, 12)
    assert store.info(index).pruned_to == 12
    assert store.info(index).journal == "journal-1"
    assert store.indices("things") == [index]
    store.delete_index(index)
    store.delete_index(index)
    assert store.indices("things") == []
    with pytest.raises(IndexMissing):
        store.info(index)


def test_a_missing_index_is_never_conjured_up(store: Store, index: str) -> None:
    for action in (
        lambda: store.write_many("things-v1-actionbus-gone", [write("1", 1)]),
        lambda: store.get_many("things-v1-actionbus-gone", ["1"]),
        lambda: store.get("nothing", "1"),
        lambda: store.search("nothing", Search("x")),
        lambda: store.point_alias("things", "things-v1-actionbus-gone"),
    ):
        with pytest.raises(IndexMissing):
            action()
    assert store.indices("things") == [index]
    assert store.aliased("things") == index
    assert store.aliased("nothing") is None


def test_loading_and_the_swap_of_an_alias(store: Store, index: str) -> None:
    other = IndexInfo("things-v2-actionbus-b", "things", 2, "journal-1")
    store.create_index(other, MAPPINGS, {}, loading=True)
    store.write_many(index, [write("1", 1, n=1)])
    store.write_many(other.name, [write("1", 1, n=2), tombstone("2", 2)])
    store.finish_loading(other.name, {})
    store.point_alias("things", other.name)
    assert store.aliased("things") == other.name
    assert store.get("things", "1") == {"n": 2}
    assert store.search("things", Search()).total == 1
    store.point_alias("things", index)
    store.refresh(index)
    assert [hit.document for hit in store.search("things", Search()).hits] == [{"n": 1}]


def test_old_tombstones_are_cleared(store: Store, index: str) -> None:
    store.write_many(index, [
        tombstone("1", 1), tombstone("2", 2), tombstone("3", 3, "2026-06-01T00:00:00+00:00"), tombstone("4", 40),
        write("5", 1)])  # fmt: skip
    assert store.greatest_tombstone(index, 10, "2026-03-01T00:00:00+00:00") == 2
    assert store.clear_tombstones(index, 10, "2026-03-01T00:00:00+00:00") == 2
    assert set(store.get_many(index, ["1", "2", "3", "4", "5"])) == {"3", "4", "5"}
    assert store.greatest_tombstone(index, 0, "2026-03-01T00:00:00+00:00") == 0


@pytest.fixture
def searchable(store: Store, index: str) -> Store:
    store.write_many(index, [
        write("1", 1, title="Grinning face", names=["Grinsendes Gesicht", "visage rieur"], tags=["smile", "happy"],
              kind="icon", n=1, yes=True),
        write("2", 2, title="Crying face", names=["weinendes Gesicht"], tags=["sad"], kind="icon", n=2, yes=False),
        write("3", 3, title="Red apple", names=["roter Apfel", "pomme été"], tags=["fruit"], kind="photo", n=3),
        tombstone("4", 4)])  # fmt: skip
    store.refresh(index)
    return store


def test_search_finds_documents_that_have_all_words(searchable: Store) -> None:
    def keys(text: str, **filters: Any) -> set[str]:
        found = searchable.search("things", Search(text, filters))
        assert found.total == len(found.hits)
        return {hit.key for hit in found.hits}

    assert keys("FACE") == {"1", "2"}
    assert keys("gesicht crying") == {"2"}
    assert keys("gesicht apfel") == set()
    assert keys("") == {"1", "2", "3"}
    assert keys("", kind="icon") == {"1", "2"}
    assert keys("face", tags="smile") == {"1"}
    assert keys("", tags=["sad", "fruit"]) == {"2", "3"}
    assert keys("", n=3) == {"3"}
    assert keys("", yes=False) == {"2"}
    assert keys("\"'); DROP -- AND OR NOT *") == set()


def test_search_pages_counts_facets_and_highlights(searchable: Store) -> None:
    pages = [searchable.search("things", Search("", facets=("tags", "kind"), limit=2, offset=at)) for at in (0, 2)]
    assert [len(page.hits) for page in pages] == [2, 1]
    assert pages[0].total == pages[1].total == 3
    assert {hit.key for page in pages for hit in page.hits} == {"1", "2", "3"}
    assert pages[0].facets == {"tags": {"fruit": 1, "happy": 1, "sad": 1, "smile": 1}, "kind": {"icon": 2, "photo": 1}}
    hit = searchable.search("things", Search("gesicht grinning")).hits[0]
    assert hit.highlights["title"] == ["<em>Grinning</em> face"]
    assert "Grinsendes <em>Gesicht</em>" in hit.highlights["names"]


def test_hostile_field_names_are_refused_or_find_nothing(searchable: Store) -> None:
    for name in ("x') OR 1=1 --", "a'b", "$.x"):
        try:
            assert searchable.search("things", Search("", {name: "1"})).total == 0
        except QueryRefused:
            pass


class Things(Projection):
    """What the index of these tests is mapped as."""

    mappings = MAPPINGS


@pytest.mark.parametrize(
    "name", ["_seq_no", "_id", "_index", "actionbus.position", "actionbus", "nosuch", "*", "", "title", "a\nb"]
)
def test_no_field_that_the_mapping_does_not_declare_is_filtered_or_counted_by(searchable: Store, name: str) -> None:
    repo = EsRepo(searchable, [Things])
    for asked in ({"filters": {name: "1"}}, {"facets": [name]}):
        with pytest.raises(QueryRefused, match=r"things has no field .* there are: kind, n, tags, yes"):
            repo.search("things", **asked)  # type: ignore[arg-type]
    assert repo.search("things", filters={"n": 1}, facets=["kind"]).facets == {"kind": {"icon": 1}}


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
    monkeypatch.setattr("actionbus.adapters.elasticsearch._BULK_BYTES", 100_000)
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
