"""What every Store has to find, and to refuse: the part of `StoreContract` that is about searches."""

from __future__ import annotations

import html
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from actionbus.projections.errors import QueryRefused
from actionbus.projections.search import MATCHES, START, Search
from actionbus.projections.store import IndexInfo, Store, Write

MAPPINGS = {
    "dynamic": "strict",
    "properties": {
        "title": {"type": "text"},
        "names": {"type": "text"},
        "tags": {"type": "keyword"},
        "kind": {"type": "keyword"},
        "n": {"type": "long"},
        "x": {"type": "double"},
        "yes": {"type": "boolean"},
        "at": {"type": "date"},
    },
}
INDEX = IndexInfo("things-v1-actionbus-a", "things", 1, "journal-1")


def write(key: str, version: int, **document: Any) -> Write:
    return Write(key, version, orjson.dumps(document))


def tombstone(key: str, version: int, at: str = "2026-01-01T00:00:00+00:00") -> Write:
    return Write(key, version, None, at)


class SearchContract:
    """The fixture `store` gives an empty one."""

    @pytest.fixture
    def index(self, store: Store) -> str:
        store.create_index(INDEX, MAPPINGS, {}, loading=False)
        store.point_alias("things", INDEX.name)
        return INDEX.name

    @pytest.fixture
    def searchable(self, store: Store, index: str) -> Store:
        store.write_many(
            index,
            [
                write(
                    "1",
                    1,
                    title="Grinning face",
                    names=["Grinsendes Gesicht", "visage rieur"],
                    tags=["smile", "happy"],
                    kind="icon",
                    n=1,
                    yes=True,
                ),
                write(
                    "2", 2, title="Crying face", names=["weinendes Gesicht"], tags=["sad"], kind="icon", n=2, yes=False
                ),
                write("3", 3, title="Red apple", names=["roter Apfel", "pomme été"], tags=["fruit"], kind="photo", n=3),
                tombstone("4", 4),
            ],
        )
        store.refresh(index)
        return store

    def test_search_finds_documents_that_have_all_words(self, searchable: Store) -> None:
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

    def test_search_pages_counts_facets_and_highlights(self, searchable: Store) -> None:
        pages = [searchable.search("things", Search("", facets=("tags", "kind"), limit=2, offset=at)) for at in (0, 2)]
        assert [len(page.hits) for page in pages] == [2, 1]
        assert pages[0].total == pages[1].total == 3
        assert {hit.key for page in pages for hit in page.hits} == {"1", "2", "3"}
        assert pages[0].facets == {
            "tags": {"fruit": 1, "happy": 1, "sad": 1, "smile": 1},
            "kind": {"icon": 2, "photo": 1},
        }
        hit = searchable.search("things", Search("gesicht grinning")).hits[0]
        assert hit.highlights["title"] == ["<em>Grinning</em> face"]
        assert "Grinsendes <em>Gesicht</em>" in hit.highlights["names"]

    @pytest.fixture
    def varied(self, store: Store, index: str) -> Store:
        """Documents of which some lack what is sorted by, and some have several."""
        store.write_many(
            index,
            [
                write("a", 1, title="red apple pie", n=3, x=1.5, kind="Zebra", at="2026-01-01T00:00:00.5Z", yes=True),
                write("b", 2, title="red apple", n=20, x=-2, kind="ant", at="2026-01-01T01:00:00+02:00", yes=False),
                write("c", 3, title="apple red", names=["red", "apple"], n=[1, 100], kind="été", at=1767225600001),
                write("d", 4, title="redder apples", n=None, at="2026-03-01"),
                write("e", 5, title='<b>red</b> & "apple"', n=3, x=1e300),
                tombstone("f", 6),
            ],
        )
        store.refresh(index)
        return store

    def found(self, store: Store, **asked: Any) -> list[str]:
        """The keys of what a search finds, in order."""
        hits = store.search("things", Search(**asked))
        assert hits.total == len(hits.hits)
        return [hit.key for hit in hits.hits]

    def test_words_stand_apart_or_side_by_side_or_go_on(self, varied: Store) -> None:
        assert set(self.found(varied, text="apple red")) == {"a", "b", "c", "e"}
        assert set(self.found(varied, text="red apple", match="phrase")) == {"a", "b"}
        assert set(self.found(varied, text="apple red", match="phrase")) == {"c"}
        assert set(self.found(varied, text="red app", match="prefix")) == {"a", "b", "c", "e"}
        assert set(self.found(varied, text="red", match="prefix")) == {"a", "b", "c", "d", "e"}
        assert self.found(varied, text="app red", match="prefix") == []

    def test_a_text_without_words_finds_nothing_and_a_blank_one_everything(self, varied: Store) -> None:
        for given in ("!!!", "&", "*", "- -", "\u200b\u200d", "'"):
            for match in MATCHES:
                assert self.found(varied, text=given, match=match) == [], (given, match)
        assert set(self.found(varied, text=" \t\n")) == set("abcde")
        assert set(self.found(varied, text="red & - apple")) == {"a", "b", "c", "e"}

    def test_what_is_sorted_by_comes_in_order_and_last_where_it_is_missing(self, varied: Store) -> None:
        assert self.found(varied, sort=["n"])[:1] == ["c"]
        assert set(self.found(varied, sort=["n"])[1:3]) == {"a", "e"}
        assert self.found(varied, sort=["n"])[3:] == ["b", "d"]
        assert self.found(varied, sort=["-n"])[:2] == ["c", "b"]
        assert self.found(varied, sort=["-n"])[4:] == ["d"]
        assert self.found(varied, sort=["n", "-x"])[:4] == ["c", "e", "a", "b"]
        assert self.found(varied, sort=["x"])[:3] == ["b", "a", "e"]
        assert self.found(varied, sort=["kind"])[:3] == ["a", "b", "c"], "byte by byte"
        assert self.found(varied, sort=["at"])[:4] == ["b", "c", "a", "d"], "by time, whatever it is written like"
        assert self.found(varied, sort=["-at"])[:4] == ["d", "a", "c", "b"]
        assert self.found(varied, sort=["yes"])[:2] == ["b", "a"]
        assert self.found(varied, text="apple", sort=["-n"])[:2] == ["c", "b"]

    def test_a_range_holds_of_one_value(self, varied: Store) -> None:
        def keys(name: str, **bounds: Any) -> set[str]:
            return set(self.found(varied, ranges={name: bounds}))

        assert keys("n", gte=3) == {"a", "b", "c", "e"}
        assert keys("n", gt=3) == {"b", "c"}
        assert keys("n", gt=3, lt=100) == {"b"}, "1 and 100 are not between"
        assert keys("n", lte="1") == {"c"}
        assert keys("x", lt=0.0) == {"b"}
        assert keys("x", gte=-(10**30)) == {"a", "b", "e"}
        assert keys("at", lt="2026-01-01") == {"b"}
        assert keys("at", gt="2026-01-01T00:00:00.000Z", lt="2026-01-01T00:00:00.501Z") == {"a", "c"}
        assert keys("at", gte=datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)) == {"a", "d"}
        assert keys("kind", gte="a") == {"b", "c"}
        assert keys("kind", gte="A", lt="a") == {"a"}
        both = {"n": {"gte": 3}, "x": {"gt": 0}}
        assert set(self.found(varied, text="red", ranges=both, filters={"yes": True})) == {"a"}

    def test_a_filter_compares_as_a_range_does_however_the_value_is_written(self, varied: Store) -> None:
        def keys(**filters: Any) -> set[str]:
            return set(self.found(varied, filters=filters))

        for three in (3, 3.0, "3", "3.0", "3e0"):
            assert keys(n=three) == {"a", "e"}
        assert keys(n=["20", 100.0]) == {"b", "c"}
        assert [keys(x="-2.0"), keys(x=1e300), keys(n=[])] == [{"b"}, {"e"}, set()]
        for time in ("2025-12-31T23:00Z", "2026-01-01T00:00:00+01:00", datetime(2025, 12, 31, 23, tzinfo=UTC)):
            assert keys(at=time) == {"b"}
        assert keys(at=[1767225600001, "2026-03"]) == {"c", "d"}
        for beyond in (2**63, -(2**63) - 1, 10**30, 1e300, "1e30", 2.5):
            assert keys(n=beyond) == set()
            both = {"n": {"gt": beyond}}, {"n": {"lt": beyond}}
            found = [set(self.found(varied, ranges=each)) for each in both]
            assert found[0] | found[1] == {"a", "b", "c", "e"}, beyond

    @pytest.mark.parametrize(
        "asked",
        [
            {"filters": {"n": "three"}},
            {"filters": {"n": True}},
            {"filters": {"n": float("nan")}},
            {"filters": {"n": ""}},
            {"filters": {"at": "yesterday"}},
            {"filters": {"yes": "perhaps"}},
            {"filters": {"yes": 1}},
            {"sort": ["title"]},
            {"sort": ["nosuch"]},
            {"sort": ["-"]},
            {"ranges": {"title": {"gt": "a"}}},
            {"ranges": {"nosuch": {"gt": 1}}},
            {"ranges": {"n": {"gt": "one"}}},
            {"ranges": {"n": {"gt": "nan"}}},
            {"ranges": {"at": {"lt": "yesterday"}}},
            {"ranges": {"at": {"lt": "9" * 400}}},
            {"ranges": {"yes": {"lt": 1}}},
        ],
        ids=str,
    )
    def test_what_no_field_can_be_asked_for_is_refused(self, varied: Store, asked: Any) -> None:
        with pytest.raises(QueryRefused):
            varied.search("things", Search(**asked))

    def pages(self, store: Store, **asked: Any) -> list[str]:
        """The keys of all that a search finds, page by page."""
        found, after = [], START
        while True:
            page = store.search("things", Search(**asked, after=after))
            found += [hit.key for hit in page.hits]
            if page.next is None:
                assert page.total == len(found)
                return found
            after = page.next

    @pytest.mark.parametrize(
        "asked",
        [
            {},
            {"text": "red"},
            {"sort": ["n"]},
            {"sort": ["-n"]},
            {"sort": ["-at", "kind"]},
            {"sort": ["kind", "x", "-n"]},
            {"sort": ["yes"], "text": "re", "match": "prefix"},
            {"ranges": {"n": {"gte": 0}}, "facets": ["n"]},
        ],
        ids=str,
    )
    def test_cursors_lead_through_all_hits_each_once_and_in_order(self, varied: Store, asked: Any) -> None:
        whole = [hit.key for hit in varied.search("things", Search(**asked)).hits]
        for limit in (1, 2, 5, 6):
            found = self.pages(varied, **asked, limit=limit)
            assert sorted(found) == sorted(whole)
            if asked.get("sort") in (["-at", "kind"], ["kind", "x", "-n"]):
                assert found == whole

    def test_a_cursor_serves_the_search_that_gave_it_alone(self, varied: Store) -> None:
        given = varied.search("things", Search("red", limit=2, sort=["n"], after=START)).next
        assert given is not None
        assert varied.search("things", Search("red", limit=1, sort=["n"], after=given)).total == 5 - 1
        hostile = [
            {"text": "apple", "sort": ["n"]},
            {"text": "red"},
            {"text": "red", "sort": ["-n"]},
            {"text": "red", "sort": ["n"], "filters": {"yes": True}},
            {"text": "red", "sort": ["n"], "match": "phrase"},
        ]
        for asked in hostile:
            with pytest.raises(QueryRefused, match="another search"):
                varied.search("things", Search(**asked, limit=2, after=given))  # type: ignore[arg-type]
        for cursor in (
            "",
            "x",
            "é",
            given[:-4],
            given + "AAAA",
            "WzFd",
            "e30",
            "bnVsbA",
            given[::-1],
            "\0",
            "A" * 100_001,
        ):
            with pytest.raises(QueryRefused, match="cursor"):
                varied.search("things", Search("red", limit=2, sort=["n"], after=cursor))

    def test_hostile_field_names_are_refused_or_find_nothing(self, searchable: Store) -> None:
        for name in ("x') OR 1=1 --", "a'b", "$.x", '"', "a..b", ".", 'a"b', "%s", ":x", "{p}", "\\"):
            with suppress(QueryRefused):
                assert searchable.search("things", Search("", {name: "1"}, facets=[name])).total == 0

    @pytest.mark.parametrize(
        "text",
        [
            "red*",
            "?",
            "/r.d/",
            "title:red OR *:*",
            '{"query": {"match_all": {}}}',
            '"red',
            "red^9 ~",
            "a AND NOT (b",
            "NEAR(red apple)",
            "red:*",
            "' OR 1=1 --",
            "\\",
            "%s %(x)s :words {p}",
            "red" * 3_000,
            "red " * 200,
            "-",
        ],
    )
    def test_no_text_is_taken_for_a_language(self, varied: Store, text: str) -> None:
        for match in MATCHES:
            assert set(self.found(varied, text=text, match=match)) <= set("abcde")
        assert varied.search("things", Search("red")).total == 4

    def test_highlights_are_html_in_which_only_marks_are_markup(self, varied: Store) -> None:
        (hit,) = varied.search("things", Search("b red apple")).hits
        (shown,) = hit.highlights["title"]
        assert re.fullmatch(r"(?:[^<>\"'&]|&[#\w]+;|</?em>)+", shown)
        assert html.unescape(shown) == '<<em>b</em>><em>red</em></<em>b</em>> & "<em>apple</em>"'

    def test_a_text_of_any_length_is_found_and_fails_no_search(self, store: Store, index: str) -> None:
        long = "red " + "lorem ipsum " * 85_000 + "at the end"
        store.write_many(index, [write("long", 1, title=long), write("short", 2, title="red")])
        store.refresh(index)
        hits = {hit.key: hit for hit in store.search("things", Search("red")).hits}
        assert hits.keys() == {"long", "short"}
        assert hits["short"].highlights == {"title": ["<em>red</em>"]}
        assert hits["long"].highlights["title"][0].startswith("<em>red</em> lorem")
        assert store.search("things", Search("the end", match="phrase")).total == 1
