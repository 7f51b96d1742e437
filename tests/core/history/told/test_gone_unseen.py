"""What somebody changed unseen is no recorded change's doing: each answer tells the gap, and blames nobody for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.history.told.byhand import Book

INSERTED, NOTICED = 1, 2


def gone_unseen(
    book: Book, before: tuple[Any, ...] | None, after: tuple[Any, ...] | None, *, held: bool = True
) -> None:
    """A row that is put there, or is not, and then changed by somebody who finds it otherwise."""
    shape = book.shape("items", "id name size")
    if held:
        book.image(shape, None, (1, "Doc", "5"), xid=5)
    book.image(shape, None, (2, "other", "5"), xid=5)
    book.record("bypass", xid=5)
    mark = book.last()
    book.image(shape, before, after, xid=6)
    book.record("bypass", xid=6, after=mark)


def test_a_column_is_not_blamed_on_whom_it_was_not_given_by(book: Book) -> None:
    gone_unseen(book, (1, "unseen", "5"), (1, "unseen", "6"))
    blame = book.history.blame("items", 1)
    told = {each.column: (each.value, each.change.operation, each.change.who.source) for each in blame.columns}
    assert told["name"] == ("unseen", "gap", None)
    assert [told["size"][0], told["size"][2].position] == ["6", NOTICED]
    assert told["id"][2].position == INSERTED
    assert [(gap.key, gap.position) for gap in blame.basis.gaps] == [({"id": 1}, NOTICED)]


CASES: dict[str, Any] = {
    "changed": ((1, "unseen", "5"), (1, "unseen", "6"), True, ["insert", "gap", "update"]),
    "removed": (None, (1, "anew", "6"), True, ["insert", "gap", "insert"]),
    "put there": ((1, "unseen", "5"), (1, "unseen", "6"), False, ["gap", "update"]),
    "changed, and then removed": ((1, "unseen", "5"), None, True, ["insert", "gap", "delete"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_row_tells_what_went_unseen_where_it_was_noticed(book: Book, case: str) -> None:
    before, after, held, operations = CASES[case]
    gone_unseen(book, before, after, held=held)
    answer = book.history.rows("items", 1)
    assert [each.operation for each in answer.changes] == operations
    assert [gap.position for gap in answer.basis.gaps] == [NOTICED]
    for one, other in zip(answer.changes, answer.changes[1:], strict=False):
        assert one.after == other.before, "with what went unseen they follow from each other"


@pytest.mark.parametrize("case", CASES)
def test_a_difference_is_that_of_the_two_states(book: Book, case: str) -> None:
    before, after, held, _ = CASES[case]
    gone_unseen(book, before, after, held=held)
    answer = book.history.diff(INSERTED, NOTICED)
    states = [
        next((row for row in book.history.state("items", at).tables.popitem()[1] if row["id"] == 1), None)
        for at in (INSERTED, NOTICED)
    ]
    assert [(each.before, each.after) for each in answer.rows] == [tuple(states)] * (states[0] != states[1])
    assert [gap.position for gap in answer.basis.gaps] == [NOTICED]


def test_a_value_that_was_given_unseen_is_found_where_it_was_noticed(book: Book) -> None:
    gone_unseen(book, (1, "unseen", "5"), (1, "later", "6"))
    found = book.history.bisect_row("items", 1, "name", "unseen")
    assert found.source is not None
    assert found.source.position == NOTICED
    assert "unseen, before this position" in found.note
    assert [gap.position for gap in found.basis.gaps] == [NOTICED]


def test_where_nothing_went_unseen_nothing_is_said(book: Book) -> None:
    shape = book.shape("items", "id name size")
    book.image(shape, None, (1, "Doc", "5"), xid=5)
    book.image(shape, (1, "Doc", "5"), (1, "Doc", "6"), xid=5)
    book.record("bypass", xid=5)
    mark = book.last()
    book.image(shape, (1, "Doc", "6"), (1, "Eve", "6"), xid=6)
    book.record("bypass", xid=6, after=mark)
    for answer in (book.history.rows("items", 1), book.history.blame("items", 1), book.history.diff(1, 2)):
        assert answer.basis.gaps == ()
    assert [each.operation for each in book.history.rows("items", 1).changes] == ["insert", "update", "update"]
