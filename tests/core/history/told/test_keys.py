"""A row is found by the key that it has, whatever its text holds, by every question that names a row."""

from __future__ import annotations

import pytest

from actionbus import HistoryError
from actionbus.core.values.journal_filter import JournalFilter
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


def test_commas_part_the_columns_of_a_key_that_has_several(named: Book) -> None:
    history = named.history
    for key in ("3,x", (3, "x"), ("3", "x")):
        assert [(each.after or {})["price"] for each in history.rows("places", key).changes] == ["3"]
    assert len(list(named.bus.journal.read(where=JournalFilter(kind=None, touching=("places", "3,x"))))) == 1
    for key in ("3", "3,x,y", ""):
        with pytest.raises(HistoryError, match=r"has 2 parts: id, code"):
            history.rows("places", key)
