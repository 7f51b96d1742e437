"""What is found for what is asked, on every store: the table of docs/projections.md."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.testing.search_contract import INDEX, MAPPINGS, write
from actionbus.projections.errors import QueryRefused
from actionbus.projections.search import START, Search
from actionbus.projections.store import Store
from tests.projections.search_table import DOCUMENTS, PAGE, ROWS, with_table


def test_each_query_of_the_table_finds_what_the_table_says(store: Store) -> None:
    store.create_index(INDEX, {**MAPPINGS, "dynamic": False}, {}, loading=False)
    store.point_alias("things", INDEX.name)
    store.write_many(INDEX.name, [write(key, at, **each) for at, (key, each) in enumerate(DOCUMENTS.items(), 1)])
    store.refresh(INDEX.name)
    is_elasticsearch = isinstance(store, ElasticsearchStore)
    wrong = []
    for row in ROWS:
        right = row.elasticsearch if is_elasticsearch and row.elasticsearch is not None else row.found
        found = store.search("things", Search(row.text, match=row.match, limit=50))
        if {hit.key for hit in found.hits} != set(right.split()) or found.total != len(found.hits):
            wrong.append((row.text, row.match, [hit.key for hit in found.hits], right))
    assert not wrong


def test_the_table_of_the_docs_is_the_one_that_is_checked() -> None:
    """Write it anew with `python -m tests.projections.search_table`."""
    assert PAGE.read_text(encoding="utf-8") == with_table(PAGE.read_text(encoding="utf-8"))


HOSTILE: list[dict[str, Any]] = [
    {"text": "x" * 10_001},
    {"text": "x " * 201},
    {"text": "x" * 100_000},
    {"text": "x " * 5_000},
    {"text": "\0"},
    {"text": "\ud800"},
    {"text": None},
    {"text": 7},
    {"limit": -1},
    {"limit": 10_001},
    {"limit": "3"},
    {"limit": True},
    {"limit": 10**30},
    {"offset": -1},
    {"offset": 9_990},
    {"offset": 10_000},
    {"offset": 1.0},
    {"match": "regexp"},
    {"match": None},
    {"facets": list("abcdefghijk")},
    {"filters": {str(n): 1 for n in range(51)}},
    {"filters": {"n": list(range(10_001))}},
    {"filters": {"n": "\0"}},
    {"filters": {"\ud800": 1}},
    {"facets": ["\0"]},
    {"sort": ["\0"]},
    {"sort": list("abcdef")},
    {"ranges": {"n": {}}},
    {"ranges": {"n": 1}},
    {"ranges": {"n": {"eq": 1}}},
    {"ranges": {"n": {"gt": None}}},
    {"ranges": {"n": {"gt": {"$ne": 1}}}},
    {"ranges": {"kind": {"gt": "\0"}}},
    {"filters": {"n": None}},
    {"filters": {"n": [None]}},
    {"filters": {"n": {"a": 1}}},
    {"filters": {"n": [[1]]}},
    {"filters": {"n": b"1"}},
    {"filters": {1: 2}},
    {"facets": [1]},
    {"sort": [1]},
    {"ranges": {1: {"gt": 1}}},
    {"ranges": {str(n): {"gt": 1} for n in range(51)}},
    {"after": "*", "offset": 1},
    {"after": "*", "limit": 0},
]


@pytest.mark.parametrize("asked", HOSTILE, ids=lambda asked: repr(asked)[:40].encode("ascii", "replace").decode())
def test_what_no_store_could_run_is_refused_before_any_is_asked(asked: dict[str, Any]) -> None:
    with pytest.raises(QueryRefused):
        Search(**asked)


def test_cursors_lead_beyond_the_ten_thousandth_hit(store: Store) -> None:
    store.create_index(INDEX, MAPPINGS, {}, loading=False)
    store.point_alias("things", INDEX.name)
    store.write_many(INDEX.name, [write(f"{at:05}", at, n=at % 7) for at in range(1, 10_101)])
    store.refresh(INDEX.name)
    for sort in (["-n"], []):
        found, after = [], START
        while after:
            page = store.search("things", Search(limit=4_000, sort=sort, after=after))
            assert page.total == 10_100
            found += page.hits
            after = page.next or ""
        assert len({hit.key for hit in found}) == len(found) == 10_100
        if sort:
            assert [hit.document["n"] for hit in found] == sorted((at % 7 for at in range(1, 10_101)), reverse=True)


@pytest.mark.parametrize("store", ["embedded on sqlite", "elasticsearch"], indirect=True)
def test_a_cursor_from_before_a_rebuild_is_refused(store: Store) -> None:
    for number, info in enumerate((INDEX, replace(INDEX, name="things-v2-actionbus-b", version=2))):
        store.create_index(info, MAPPINGS, {}, loading=False)
        store.write_many(info.name, [write(str(at), at, n=number) for at in range(1, 4)])
        store.refresh(info.name)
    store.point_alias("things", INDEX.name)
    given = store.search("things", Search(limit=1, after=START)).next
    store.point_alias("things", "things-v2-actionbus-b")
    with pytest.raises(QueryRefused, match="rebuilt"):
        store.search("things", Search(limit=1, after=given))
