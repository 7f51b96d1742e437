"""Texts of rows on PostgreSQL, many at once as a state reads them, become what each of them becomes alone."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from actionbus.core.history.decoding import decoder_of, fields_of, row_text

FIELDS = st.none() | st.text(alphabet=',()"\\\r\n a', max_size=6) | st.sampled_from([")\n(", '")\n("', "a,b", ")\\\n("])
ROWS = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(FIELDS, min_size=width, max_size=width), min_size=1, max_size=5)
)


@settings(deadline=None)
@given(ROWS)
@example([["1", ")\n("], ["2", None]])
@example([["a b", "1"], [None, "2"]])
@example([[None], ["1"]])
def test_rows_read_at_once_are_those_read_one_by_one(rows: list[list[str | None]]) -> None:
    texts = list(map(row_text, rows))
    told = list(decoder_of(["text"] * len(rows[0]))(texts))
    assert told == list(map(tuple, rows)) == [tuple(fields_of(each)) for each in texts]
