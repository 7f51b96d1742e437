"""A row is found by the key that it has, whatever its text holds, by every question that names a row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actionbus import HistoryError
from actionbus.core.values.journal_filter import JournalFilter
from actionbus.core.values.row_keys import key_parts, key_text
from tests.core.history.told.byhand import HOSTILE, Book, with_hostile_keys


@pytest.fixture
def named(book: Book) -> Book:
    """Tables whose rows have names of any signs."""
    return with_hostile_keys(book)


def test_a_text_is_a_key_with_all_its_signs(named: Book) -> None:
    history = named.history
    for number, code in enumerate(HOSTILE):
        assert [each.after for each in history.rows("goods", code).changes] == [{"code": code, "price": str(number)}]
        (blamed,) = history.blame("goods", (code,), "price").columns
        assert blamed.value == str(number)
        assert history.bisect_row("goods", code, "price", str(number)).source is not None
        assert len(list(named.bus.journal.read(where=JournalFilter(kind=None, touching=("goods", code))))) == 1


def test_json_tells_the_columns_of_a_key_whatever_is_in_them(named: Book) -> None:
    history = named.history
    for number, code in enumerate(HOSTILE):
        texts = (json.dumps([number, code]), f'[ "{number}" , {json.dumps(code)} ]', key_text([number, code]))
        for key in (*texts, (number, code)):
            found = history.rows("shelves", key).changes
            assert [(each.after or {})["price"] for each in found] == [str(number)], key
            touching = JournalFilter(kind=None, touching=("shelves", *(key if isinstance(key, tuple) else (key,))))
            assert len(list(named.bus.journal.read(where=touching))) == 1


@pytest.mark.parametrize("key", ["[1]", '[1,"a","b"]', '[{"a":1},"b","c"]', '["a,b"', "[", "[1,2", '[["a"],"b",3]'])
def test_what_is_no_array_of_its_parts_is_read_with_commas(named: Book, key: str) -> None:
    parts = tuple(key.split(","))
    assert key_parts(key, 2) == parts
    if len(parts) != 2:
        with pytest.raises(HistoryError, match="with commas between, or as a JSON array"):
            named.history.rows("shelves", key)


VALUES = st.one_of(st.text(), st.integers(-(2**60), 2**60))


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4))
def test_the_text_of_any_key_is_read_as_that_key(parts: list[Any]) -> None:
    found = key_parts(key_text(parts), len(parts))
    assert [str(each) for each in found] == [str(each) for each in parts]


def test_commas_part_the_columns_of_a_key_that_has_several(named: Book) -> None:
    history = named.history
    for key in ("3,x", (3, "x"), ("3", "x")):
        assert [(each.after or {})["price"] for each in history.rows("places", key).changes] == ["3"]
    assert len(list(named.bus.journal.read(where=JournalFilter(kind=None, touching=("places", "3,x"))))) == 1
    for key in ("3", "3,x,y", ""):
        with pytest.raises(HistoryError, match=r"has 2 parts: id, code"):
            history.rows("places", key)
