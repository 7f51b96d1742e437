"""What the row history tells of images that were written by hand, the hard ones among them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from actionbus import HistoryError
from actionbus.core.history.decoding import UNKNOWN
from actionbus.core.history.fold import Fold
from tests.core.history.told.byhand import Book, found


def test_state_rows_blame_and_diff_of_two_actions(book: Book) -> None:
    shape = book.shape("items", "id name note")
    one, two = uuid4(), uuid4()
    book.image(shape, None, (1, "a", None), action=one, xid=11)
    book.image(shape, None, (2, "b", "x"), action=one, xid=11)
    first = book.record(action_id=one, xid=11)
    start = book.last()
    book.image(shape, (1, "a", None), (1, "c", None), action=two, xid=12)
    book.image(shape, (2, "b", "x"), None, action=two, xid=12)
    second = book.record(action_id=two, xid=12, after=start)

    a, c = {"id": 1, "name": "a", "note": None}, {"id": 1, "name": "c", "note": None}
    assert book.state("items", first) == [a, {"id": 2, "name": "b", "note": "x"}]
    assert book.state("items") == [c]
    changes = book.history.rows("items", 1).changes
    assert [(each.operation, each.after, each.who.shown()["position"]) for each in changes] == [
        ("insert", a, first),
        ("update", c, second),
    ]
    blamed = {each.column: each.change.who.source for each in book.history.blame("items", "1").columns}
    assert {name: source and source.position for name, source in blamed.items()} == {
        "id": first,
        "name": second,
        "note": first,
    }
    differing = book.history.diff(first, second).rows
    assert sorted((each.key["id"], each.before, each.after) for each in differing)[0] == (1, a, c)
    assert [each.after for each in differing if each.key["id"] == 2] == [None]
    assert [each.after for each in book.history.changes(one).changes] == [a, {"id": 2, "name": "b", "note": "x"}]


def test_the_order_of_images_is_not_that_of_execution(book: Book) -> None:
    """A trigger on the first row of an INSERT updates its second: the update's image comes first."""
    shape = book.shape("items", "id name")
    own = uuid4()
    book.image(shape, (2, "b"), (2, "changed"), action=own, xid=5)
    book.image(shape, None, (2, "b"), action=own, xid=5)
    book.record(action_id=own, xid=5)
    answer = book.history.state("items")
    assert answer.tables.popitem()[1] == [{"id": 2, "name": "changed"}]
    assert answer.basis.gaps == ()
    assert [each.operation for each in book.history.rows("items", 2).changes] == ["insert", "update"]


def test_rows_that_are_equal_are_counted_in_a_table_without_key(book: Book) -> None:
    shape = book.shape("log", "word", key="")
    own = uuid4()
    for _ in range(3):
        book.image(shape, None, ("x",), action=own, xid=5)
    book.record(action_id=own, xid=5)
    mark = book.last()
    book.image(shape, ("x",), None, xid=6)
    book.record("bypass", xid=6, after=mark)
    assert book.state("log") == [{"word": "x"}] * 2
    with pytest.raises(HistoryError, match="no key"):
        book.history.rows("log", "x")


def test_a_change_of_key_ends_one_row_and_begins_another(book: Book) -> None:
    shape = book.shape("items", "id name")
    book.image(shape, None, (1, "a"), xid=5)
    book.image(shape, (1, "a"), None, xid=5)
    book.image(shape, None, (7, "a"), xid=5)
    book.record("bypass", xid=5)
    assert book.state("items") == [{"id": 7, "name": "a"}]
    assert book.history.rows("items", 1).changes[-1].operation == "delete"


def test_a_row_that_is_changed_unseen_is_a_gap_and_its_last_image_is_told(book: Book) -> None:
    shape = book.shape("items", "id name")
    book.image(shape, None, (1, "a"), xid=5)
    book.image(shape, (1, "unseen"), (1, "c"), xid=5)
    book.image(shape, (2, "never put there"), None, xid=5)
    book.image(shape, None, None, xid=5)
    book.record("bypass", xid=5)
    answer = book.history.state("items")
    assert answer.tables.popitem()[1] == [{"id": 1, "name": "c"}]
    assert sorted(str(gap.key.get("id")) for gap in answer.basis.gaps) == ["1", "2", "None"]


@pytest.mark.parametrize(
    "changes",
    [
        [(None, "b"), ("b", None)],  # as after a REPLACE that no trigger saw, or while triggers were switched off
        [("b", "c"), ("c", None)],
        [("b", "c"), ("c", "b"), ("b", None)],
    ],
)
@pytest.mark.parametrize("are_together", [True, False])
def test_a_row_that_went_unseen_does_not_come_back_when_what_took_its_place_goes(
    book: Book, changes: list[tuple[str | None, str | None]], are_together: bool
) -> None:
    """Their sum is the row that went; but from it nothing leads to what was taken away later."""
    shape = book.shape("items", "id name")
    book.image(shape, None, (1, "a"), xid=5)
    book.record("bypass", xid=5)
    for number, (before, after) in enumerate(changes, 6):
        mark, xid = book.last(), 6 if are_together else number
        book.image(shape, before and (1, before), after and (1, after), xid=xid)
        if not are_together:
            book.record("bypass", xid=xid, after=mark)
    if are_together:
        book.record("bypass", xid=6, after=1)
    answer = book.history.state("items")
    assert answer.tables.popitem()[1] == []
    assert [gap.key for gap in answer.basis.gaps] == [{"id": 1}]
    assert book.history.bisect("SELECT count(*) = 0 FROM items", good=1).source is not None


def test_a_column_that_was_not_recorded_is_unknown_not_null(book: Book) -> None:
    old = book.shape("items", "id name")
    book.image(old, None, (1, "a"), xid=5)
    book.image(old, None, (2, "b"), xid=5)
    before = book.record("bypass", xid=5)
    new = book.shape("items", "id name size")
    mark = book.last()
    book.image(new, (2, "b", "5"), (2, "b", "6"), xid=6)
    book.record("bypass", xid=6, after=mark)
    answer = book.history.state("items")
    assert sorted(answer.tables.popitem()[1], key=repr) == [
        {"id": 1, "name": "a", "size": UNKNOWN},
        {"id": 2, "name": "b", "size": "6"},
    ]
    assert answer.basis.gaps == ()
    assert book.state("items", before)[0] == {"id": 1, "name": "a"}


def test_what_became_known_stays_known_though_the_row_came_out_as_it_was(book: Book) -> None:
    """The sum of its images under the shape that knows more is nothing; what they know is not."""
    old = book.shape("items", "id name")
    book.image(old, None, (1, "a"), xid=5)
    book.image(old, None, (2, "b"), xid=5)
    book.record("bypass", xid=5)
    new = book.shape("items", "id name size")
    mark = book.last()
    book.image(new, (1, "a", "5"), (1, "z", "5"), xid=6)
    book.image(new, (1, "z", "5"), (1, "a", "5"), xid=6)
    at = book.record("bypass", xid=6, after=mark)
    known = {"id": 1, "name": "a", "size": "5"}
    assert sorted(book.history.state("items").tables.popitem()[1], key=repr) == [
        known,
        {"id": 2, "name": "b", "size": UNKNOWN},
    ]
    assert {each.column: each.value for each in book.history.blame("items", 1).columns} == known
    assert book.history.bisect("SELECT EXISTS (SELECT 1 FROM items WHERE size = '5')").source.position == at  # type: ignore[union-attr]


def test_what_became_known_stays_known_though_the_order_of_images_does_not_tell(book: Book) -> None:
    old = book.shape("items", "id name")
    book.image(old, None, (1, "a"), xid=5)
    book.record("bypass", xid=5)
    new = book.shape("items", "id name size")
    mark = book.last()
    book.image(new, (1, "z", "5"), (1, "a", "5"), xid=6)
    book.image(new, (1, "a", "5"), (1, "z", "5"), xid=6)
    at = book.record("bypass", xid=6, after=mark)
    answer = book.history.state("items")
    assert answer.tables.popitem()[1] == [{"id": 1, "name": "a", "size": "5"}]
    assert answer.basis.gaps == ()
    found = book.history.bisect("SELECT EXISTS (SELECT 1 FROM items WHERE name = 'a' AND size = '5')").source
    assert found is not None
    assert found.position == at


def test_rows_of_before_a_baseline_are_told_by_its_columns(book: Book) -> None:
    old = book.shape("items", "id gone name")
    book.image(old, None, (1, "x", "a"), xid=5)
    before = book.record("bypass", xid=5)
    anew = book.shape("items", "id name", is_baseline=True, xid=6)
    mark = book.last()
    book.image(anew, None, (1, "b"), operation="b", xid=6)
    at = book.record("bypass", xid=6, after=mark)
    [found] = book.history.diff(before, at, "items").rows
    assert (found.before, found.after) == ({"id": 1, "name": "a"}, {"id": 1, "name": "b"})
    found = book.history.bisect("SELECT EXISTS (SELECT 1 FROM items WHERE name = 'b')", good=before)  # type: ignore[assignment]
    assert found.source.position == at  # type: ignore[attr-defined]


def test_blame_goes_through_a_baseline_that_found_a_value_as_it_was(book: Book) -> None:
    """A migration that makes a table anew is no answer to who gave a row its values."""
    old = book.shape("items", "id name size")
    book.image(old, None, (1, "a", "5"), xid=5)
    inserted = book.record("bypass", xid=5)
    anew = book.shape("items", "id name size colour", is_baseline=True, xid=6)
    mark = book.last()
    book.image(anew, None, (1, "a", "6", "red"), operation="b", xid=6)
    baseline = book.record("bypass", xid=6, after=mark)
    again = book.shape("items", "id name size colour", is_baseline=True, xid=7)
    mark = book.last()
    book.image(again, None, (1, "a", "6", "red"), operation="b", xid=7)
    book.record("bypass", xid=7, after=mark)
    found = {each.column: each for each in book.history.blame("items", 1).columns}
    positions = {name: each.change.who.source and each.change.who.source.position for name, each in found.items()}
    assert positions == {"id": inserted, "name": inserted, "size": baseline, "colour": baseline}
    assert [found[name].value for name in ("name", "size", "colour")] == ["a", "6", "red"]


def test_a_migration_has_the_position_of_its_record_on_postgresql(postgres_book: Book) -> None:
    """Whatever the clock said when it began; and a record with a transaction's number that comes again is no place."""
    book = postgres_book
    old = book.shape("items", "id name")
    book.image(old, None, (1, "a"), xid=5)
    book.record("bypass", xid=5)
    anew = book.shape("items", "id name size", xid=6)
    meanwhile = book.record("bypass", xid=7)
    at = book.record("bypass", xid=6, context='{"baseline": []}')
    assert book.state("items", meanwhile) == [{"id": 1, "name": "a"}]
    assert book.state("items", at) == [{"id": 1, "name": "a", "size": UNKNOWN}]
    book.image(anew, (1, "a", None), (1, "a", "5"), xid=6)
    later = book.record("bypass", xid=6)
    assert book.state("items", later) == [{"id": 1, "name": "a", "size": "5"}]
    assert book.state("items", at) == [{"id": 1, "name": "a", "size": UNKNOWN}]


def test_a_renamed_column_is_the_same_on_postgresql(postgres_book: Book) -> None:
    book = postgres_book
    old = book.shape("items", "id name", numbers=(1, 2))
    book.image(old, None, (1, "a"), xid=5)
    before = book.record("bypass", xid=5)
    book.shape("items", "id title", numbers=(1, 2))
    book.record("bypass", xid=6)
    assert book.state("items") == [{"id": 1, "title": "a"}]
    assert book.state("items", before) == [{"id": 1, "name": "a"}]


def test_with_a_baseline_the_table_begins_anew(book: Book) -> None:
    shape = book.shape("items", "id name", withheld="secret")
    book.image(shape, None, (1, "a"), xid=5)
    book.image(shape, None, (2, "gone unseen"), xid=5)
    before = book.record("bypass", xid=5)
    anew = book.shape("items", "id name", is_baseline=True, xid=6)
    mark = book.last()
    book.image(anew, None, (1, "unseen"), operation="b", xid=6)
    at = book.record("bypass", xid=6, after=mark)
    answer = book.history.state("items")
    assert answer.tables.popitem()[1] == [{"id": 1, "name": "unseen"}]
    assert answer.basis.tables[0].since_position == at
    assert [each["name"] for each in book.state("items", before)] == ["a", "gone unseen"]
    assert book.history.state("items", before).basis.tables[0].withheld == ("secret",)
    assert [(each.key["id"], each.after) for each in book.history.diff(before).rows] == [
        (1, {"id": 1, "name": "unseen"}),
        (2, None),
    ]
    assert found(book, "name = 'unseen'") == at
    gone = "SELECT count(*) = 0 FROM items WHERE id = 2"
    assert book.history.bisect(gone, good=before).source.position == at  # type: ignore[union-attr]


def test_what_is_not_there_is_said_in_a_sentence(book: Book) -> None:
    empty = book.record("bypass", xid=1)
    book.shape("items", "id name")
    book.record("bypass", xid=2)
    cases: list[tuple[Any, str]] = [
        (lambda: book.history.state("item"), "no table 'item' was ever recorded; recorded are: .*items"),
        (lambda: book.history.state(at=99), "there is no position 99 yet; the journal ends at 2"),
        (lambda: book.history.rows("items", (1, 2)), "has 1 parts: id"),
        (lambda: book.history.blame("items", 1, "nme"), "no recorded column 'nme'; it has: id, name"),
        (lambda: book.history.state(at="tomorrow"), "is not a point in history"),
        (lambda: book.history.bisect("SELECT 1"), "names no recorded table"),
    ]
    for ask, told in cases:
        with pytest.raises(HistoryError, match=told):
            ask()
    assert empty == 1


def test_bisect_finds_the_first_position_by_a_value_and_by_a_query(book: Book) -> None:
    shape = book.shape("items", "id name")
    mark, held, positions = 0, None, []
    for number in range(9):
        row = (1, str(number))
        book.image(shape, held, row, xid=20 + number)
        positions.append(book.record("bypass", xid=20 + number, after=mark))
        mark, held = book.last(), row
    by_query = book.history.bisect("SELECT EXISTS (SELECT 1 FROM items WHERE name >= '6')")
    by_value = book.history.bisect_row("items", 1, "name", "6")
    assert by_query.source is not None
    assert by_query.source.position == by_value.source.position == positions[6]  # type: ignore[union-attr]
    assert by_query.checks <= 6
    assert book.history.bisect("SELECT count(*) > 5 FROM items").source is None


def test_a_query_sees_no_table_but_the_copies(book: Book) -> None:
    shape = book.shape("items", "id name")
    book.image(shape, None, (1, "a"), xid=5)
    book.record("bypass", xid=5)
    for query in ("SELECT count(*) FROM items, journal", "INSERT INTO items VALUES (1) RETURNING nothing"):
        with pytest.raises(HistoryError, match="cannot be run"):
            book.history.bisect(query)


@pytest.mark.parametrize("value", [1.0, -0.0, 1e400, 2**63 - 1, b"\xff\x00", "nul\0"])
def test_sqlite_values_come_as_they_were_stored(sqlite_book: Book, value: Any) -> None:
    book = sqlite_book
    shape = book.shape("items", "id name")
    book.image(shape, None, (1, value))
    book.record("bypass")
    assert repr(book.state("items")[0]["name"]) == repr(value)


def test_a_query_sees_a_text_that_is_no_utf8_as_it_was_stored(sqlite_book: Book) -> None:
    book = sqlite_book
    shape = book.shape("items", "id name")
    book.image(shape, None, (1, "fine"))
    book._run(
        "INSERT INTO actionbus_images (shape, operation, key, at, n1, n2) VALUES (1, 'i', 2, 1.0, 2, CAST(x'ff41' AS TEXT))"
    )
    at = book.record("bypass")
    assert book.state("items")[1]["name"] == "\udcffA"
    assert found(book, "typeof(name) = 'text' AND hex(name) = 'FF41'") == at


def test_a_state_comes_page_by_page_in_the_order_of_keys(book: Book) -> None:
    shape = book.shape("pairs", "id name", "name id")
    rows = [(number, name) for name in ("a", "b,c", "d") for number in (1, 2)]
    for row in rows:
        book.image(shape, None, row, xid=5)
    book.image(shape, (2, "b,c"), None, xid=5)
    book.record("bypass", xid=5)
    pages, after = [], None
    while page := book.history.state("pairs", after=after, limit=2).tables.popitem()[1]:
        pages.append([(each["id"], each["name"]) for each in page])
        after = (page[-1]["name"], page[-1]["id"])
    assert [len(each) for each in pages] == [2, 2, 1]
    assert {row for page in pages for row in page} == set(rows) - {(2, "b,c")}
    with book.history.streamed("pairs") as streamed:
        told = {name.rpartition(".")[2]: [each["id"] for each in rows_] for name, rows_ in streamed}
    assert told == {"pairs": [number for page in pages for number, _ in page]}
    assert streamed.basis.position == 1


def test_what_has_no_order_is_not_told_page_by_page(book: Book) -> None:
    book.shape("log", "word", "")
    book.shape("moved", "id name")
    book.shape("moved", "id name", "name")
    book.record("bypass", xid=5)
    with pytest.raises(HistoryError, match="log has no key by which its rows could be told page by page"):
        book.history.state("log", limit=1)
    with pytest.raises(HistoryError, match=r"the key of .*moved was another one earlier"):
        book.history.state("moved", after="x")
    with pytest.raises(HistoryError, match="page through one table; name it"):
        book.history.state(limit=1)
    with pytest.raises(HistoryError, match="has 1 parts: id"):
        book.shape("items", "id name")
        book.record("bypass", xid=6)
        book.history.state("items", after=(1, 2))


def test_rows_that_lost_a_column_are_found_among_many(book: Book) -> None:
    """A table without a key, all of whose rows were changed after its columns: not each beside each."""
    old = book.shape("log", "word more", "")
    words = [(str(number), "x") for number in range(500)]
    for word in words:
        book.image(old, None, word, xid=5)
    first = book.record("bypass", xid=5)
    new, mark = book.shape("log", "word", ""), book.last()
    for word, _ in words:
        book.image(new, (word,), (f"{word}!",), xid=6)
    book.record("bypass", xid=6, after=mark)
    compared = []
    seen = Fold.common
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fold, "common", lambda *given: compared.append(1) or seen(*given))
        answer = book.history.state("log")
    assert sorted(each["word"] for each in answer.tables.popitem()[1]) == sorted(f"{word}!" for word, _ in words)
    assert answer.basis.gaps == ()
    assert len(compared) == 2 * len(words)
    assert len(book.history.diff(first).rows) == 2 * len(words)
    assert book.history.bisect("SELECT EXISTS (SELECT 1 FROM log WHERE word = '7!')", good=first).source is not None
