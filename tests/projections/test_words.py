"""Words: whatever is written in a document is found by writing it again, and no word needs to be quoted anywhere."""

from __future__ import annotations

import random
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL

from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.highlights import highlights
from actionbus.adapters.testing.search_contract import INDEX, MAPPINGS, write
from actionbus.adapters.words import GAP, LONGEST_WORD, composed, indexed_words, phrases_in, without_tail, words_in
from actionbus.projections.search import MATCHES, Search
from actionbus.projections.store import Store
from tests.conftest import TORTURE

ALPHABETS = st.sampled_from(
    [
        "abcdé-_.:'@,;1٣3",
        "東京都ひらカタ서울สวั ー々ﾞ",
        "🚀👍🏽\u200d👩🇩🇪❤\ufe0f",
        "हिन्दी\u0301\u0308ﬁ℀½",
        '"\\&|!<>*¶$%{}()',
    ]
)
TEXTS = st.one_of(
    st.text(max_size=30), ALPHABETS.flatmap(lambda letters: st.text(st.sampled_from(letters + " "), max_size=30))
)
EXAMPLES = 2_000 if TORTURE else 60


@settings(max_examples=EXAMPLES, deadline=None)
@given(TEXTS)
@example("x" * 600 + "ﷺ" * 200)
@example("_" * 10_000 + "." * 10_000 + "\u200d" * 10_000)
def test_words_are_plain_and_lie_where_they_say(text: str) -> None:
    at = 0
    for word in words_in(text):
        assert 0 < len(word.text) <= LONGEST_WORD
        assert word.text == word.text.lower().strip()
        assert not re.search(r"[\s\"\\¶]", word.text)
        assert 0 <= word.start < word.end <= len(composed(text))
        assert word.start >= at
        at = word.start
    assert GAP not in {word.text for word in words_in(text + GAP)}


@pytest.mark.parametrize("mark", "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u00ad\u2060")
def test_what_nobody_sees_at_a_word_makes_no_difference(mark: str) -> None:
    for text in ("evil", "مرحبا", "東京"):
        plain = [word.text for word in words_in(text)]
        assert [word.text for word in words_in(f"{mark}{text}{mark}")] == plain
        assert without_tail(f"{text}{mark}.{mark}") == text


@settings(max_examples=EXAMPLES, deadline=None)
@given(TEXTS)
@example("각 が é")
def test_neither_case_nor_how_unicode_composes_a_text_makes_a_difference(text: str) -> None:
    def words(given: str) -> list[str]:
        return [word.text for word in words_in(given)]

    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))
    if text.isascii():
        assert words(text.upper()) == words(text)


@pytest.fixture(scope="module")
def sqlite() -> Store:
    """One store for all examples; each is written over the one before."""
    found = EmbeddedStore(create_engine("sqlite://"))
    found.create_index(INDEX, MAPPINGS, {}, loading=False)
    found.point_alias("things", INDEX.name)
    return found


@pytest.fixture
def postgresql(postgres_url: URL) -> Store:
    found = EmbeddedStore(create_engine(postgres_url))
    found.create_index(INDEX, MAPPINGS, {}, loading=False)
    found.point_alias("things", INDEX.name)
    return found


def is_found_by_its_own_parts(store: Store, version: int, text: str) -> None:
    """Every part of a text that has words finds it, in each way; so does the text as a whole."""
    store.write_many(INDEX.name, [write("1", version, title=text, names=[text[::-1]])])
    for asked in {text, *text.split()}:
        for match in MATCHES:
            if asked.strip():
                found = store.search("things", Search(asked, match=match))
                assert found.total == bool(phrases_in(asked)), (asked, match)
                assert all(hit.highlights for hit in found.hits), (asked, match)


def storable(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "ignore").decode()


VERSIONS = iter(range(1, 10**9))


@settings(max_examples=EXAMPLES, deadline=None)
@given(TEXTS.map(storable))
@example("東京都 tower 猫")
@example("ABC-1234 it's")
def test_what_is_written_is_found_by_writing_it_again(sqlite: Store, text: str) -> None:
    is_found_by_its_own_parts(sqlite, next(VERSIONS), text)


def test_what_is_written_is_found_by_writing_it_again_on_postgresql(postgresql: Store) -> None:
    @settings(max_examples=EXAMPLES // 3, deadline=None)
    @given(TEXTS.map(storable))
    @example("東京都 tower 猫")
    @example("it's '' \\ : & | ! <-> :* ( 'a':1")
    def check(text: str) -> None:
        is_found_by_its_own_parts(postgresql, next(VERSIONS), text)

    check()


def test_a_phrase_is_found_behind_the_last_position_that_postgresql_counts(postgresql: Store) -> None:
    postgresql.write_many(INDEX.name, [write("1", 1, title="word " * 20_000 + "red apple pie")])
    assert postgresql.search("things", Search("apple pie", match="phrase")).total == 1
    assert postgresql.search("things", Search("pie apple", match="phrase")).total == 0
    assert postgresql.search("things", Search("apple pi", match="prefix")).total == 1


@pytest.mark.parametrize(
    ("text", "asked", "shown"),
    [
        ("東京都の天気", "京都", "東<em>京都</em>の天気"),
        ("東京都", "東", "<em>東</em>京都"),
        ("see ABC-1234, not 1234", "ABC-1234", "see <em>ABC</em>-<em>1234</em>, not 1234"),
        ("Größe & Größen", "grosse", "<em>Größe</em> &amp; Größen"),
        ("a 🚀 b", "🚀", "a <em>🚀</em> b"),
    ],
)
def test_what_was_looked_for_stands_out(text: str, asked: str, shown: str) -> None:
    assert highlights({"title": text}, ["title"], phrases_in(asked)) == {"title": [shown]}


def test_texts_in_objects_and_lists_are_indexed_and_where_nothing_is_mapped_all_are() -> None:
    document = {"a": {"b": "one", "c": "two"}, "d": [{"e": "three"}, {"e": ["four", 5]}], "f": None}
    assert indexed_words(document, ["a.b", "d.e", "f", "g.h"]) == ["one", GAP, "three", GAP, "four", GAP, "5", GAP]
    assert set(indexed_words(document, ["*"])) == {"one", "two", "three", "four", "5", GAP}


def test_sqlite_looks_up_words_before_it_looks_at_documents(sqlite: Store) -> None:
    """Left to itself it asks the words for each document in turn: seconds at 20,000 of them."""
    engine = sqlite._engine  # type: ignore[attr-defined]
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "MATCH" in statement and "EXPLAIN" not in statement:
            asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    sqlite.search("things", Search("red apple", facets=["tags"], sort=["n"], filters={"n": 1}))
    assert len(asked) == 3
    with engine.connect() as connection:
        for statement, parameters in asked:
            plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            scans = [step for step in plan if "projection_words" in step or " d " in f"{step} "]
            assert "projection_words" in scans[0], plan


@pytest.mark.parametrize("seed", range(3))
def test_plain_text_is_cut_the_fast_way_as_any_other_is(seed: int) -> None:
    chance = random.Random(seed)
    letters = "abzAZ019__'''...:::,,;; -^+<>\n\t@\x00"
    for _ in range(2_000):
        text = "".join(chance.choices(letters, k=chance.randint(0, 14)))
        slow = [word.text for word in words_in(text)]
        assert indexed_words({"text": text}, ["text"]) == [*slow, GAP], text
    assert max(map(len, indexed_words({"text": "a" * 600}, ["text"]))) == LONGEST_WORD
