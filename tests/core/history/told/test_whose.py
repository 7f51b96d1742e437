"""Whose an image is told to be: by transaction, record and range, and when somebody else claims it."""

from __future__ import annotations

from uuid import uuid4

from tests.core.history.told.byhand import Book, found


def test_whose_an_image_is_where_transactions_overlap(postgres_book: Book) -> None:
    """The one that began first, and drew the first image, ends last; the snapshot says it was running."""
    book = postgres_book
    shape = book.shape("items", "id name")
    slow, quick = uuid4(), uuid4()
    book.image(shape, None, (1, "slow"), action=slow, xid=100)
    book.image(shape, None, (2, "quick"), action=quick, xid=101)
    first = book.record(action_id=quick, xid=101, seen="100:102:100")
    book.image(shape, None, (3, "bypass"), xid=99)
    second = book.record("bypass", xid=99, seen="99:103:100")
    third = book.record(action_id=slow, xid=100, seen="100:101:")
    names = {at: [each["name"] for each in book.state("items", at)] for at in (first, second, third)}
    assert names == {first: ["quick"], second: ["quick", "bypass"], third: ["slow", "quick", "bypass"]}
    assert book.history.rows("items", 1).changes[0].who.source.position == third  # type: ignore[union-attr]
    assert [each.key["id"] for each in book.history.diff(first, third).rows] == [1, 3]
    assert [found(book, f"id = {each}") for each in (1, 2, 3)] == [third, first, second]


def test_a_bisect_sees_a_row_as_it_was_before_a_transaction_that_ends_later(postgres_book: Book) -> None:
    book = postgres_book
    shape = book.shape("items", "id name")
    book.image(shape, None, (1, "old"), xid=99)
    start = book.record("bypass", xid=99, seen="99:100:")
    book.image(shape, (1, "old"), (1, "new"), xid=100)
    book.image(shape, None, (2, "quick"), xid=101)
    book.record("bypass", xid=101, seen="100:102:100")
    end = book.record("bypass", xid=100, seen="100:102:")
    gone = "SELECT NOT EXISTS (SELECT 1 FROM items WHERE name = 'old')"
    assert book.history.bisect(gone, good=start).source.position == end  # type: ignore[union-attr]
    assert found(book, "name = 'new'") == end


def test_a_forged_action_is_shown_as_a_bypass_that_claims_it(postgres_book: Book) -> None:
    book = postgres_book
    shape = book.shape("items", "id name")
    real = uuid4()
    book.image(shape, None, (1, "a"), action=real, xid=50)
    book.record(action_id=real, xid=50)
    book.image(shape, (1, "a"), (1, "forged"), action=real, xid=51)
    at = book.record("bypass", xid=77)
    forged = book.history.rows("items", 1).changes[-1].who
    assert forged.shown()["bypass"] == {"claims": real.hex}
    assert forged.shown()["position"] == at
    assert forged.shown()["action"] is None
    assert len(book.history.changes(real).changes) == 1


def test_a_forged_action_is_told_at_the_end_before_a_record_gives_it_a_position(postgres_book: Book) -> None:
    """Rows that stand there are never passed over in silence."""
    book = postgres_book
    shape = book.shape("items", "id name")
    assert book.history.state("items").tables.popitem()[1] == []
    book.image(shape, None, (1, "a"), action=uuid4(), xid=5)
    answer = book.history.state("items")
    assert (answer.tables.popitem()[1], answer.basis.waiting) == ([{"id": 1, "name": "a"}], 1)
    [change] = book.history.rows("items", 1).changes
    assert change.who.bypass
    assert change.who.source is None
    at = book.record(xid=6)
    assert book.history.state("items").basis.waiting == 0
    assert [each.who.source.position for each in book.history.rows("items", 1).changes if each.who.source] == [at]


def test_two_records_of_one_transaction_part_its_images(postgres_book: Book) -> None:
    """SET CONSTRAINTS ALL IMMEDIATE in the middle; the transaction runs on beyond the first record."""
    book = postgres_book
    shape = book.shape("items", "id name")
    book.image(shape, None, (1, "a"), xid=50)
    first = book.record("bypass", xid=50, seen="50:51:50")
    book.image(shape, None, (2, "b"), xid=50)
    book.image(shape, None, (3, "other"), xid=51)
    other = book.record("bypass", xid=51, seen="50:52:50")
    second = book.record("bypass", xid=50, seen="50:52:50")
    ids = {at: [each["id"] for each in book.state("items", at)] for at in (first, other, second)}
    assert ids == {first: [1], other: [1, 3], second: [1, 2, 3]}


def test_a_snapshot_of_another_cluster_is_passed_over(postgres_book: Book) -> None:
    """A restored journal: numbers of transactions begin anew, and an old snapshot would say that they all had ended."""
    book = postgres_book
    shape = book.shape("items", "id name")
    book.image(shape, None, (1, "old"), xid=5000)
    book.record("bypass", xid=5000, seen="5000:5001:5000")
    book.image(shape, None, (2, "slow"), xid=10)
    book.image(shape, None, (3, "quick"), xid=11)
    quick = book.record("bypass", xid=11)
    book.record("bypass", xid=10)
    assert [each["id"] for each in book.state("items", quick)] == [1, 3]


def test_the_innermost_range_has_the_image_on_sqlite(sqlite_book: Book) -> None:
    book = sqlite_book
    shape = book.shape("items", "id name")
    outer, inner = uuid4(), uuid4()
    book.image(shape, None, (1, "outer"))
    book.image(shape, None, (2, "inner"))
    book.image(shape, None, (3, "outer"))
    nested = book.record(action_id=inner, cause=outer, after=1, upto=2)
    end = book.record(action_id=outer, after=0, upto=3)
    book.image(shape, None, (4, "later"))
    assert [each["id"] for each in book.state("items", nested)] == [2]
    assert [each["id"] for each in book.state("items", end)] == [1, 2, 3, 4]
    assert [found(book, f"id = {each}") for each in (1, 2, 3)] == [end, nested, end]
    assert book.history.state().basis.waiting == 1
    assert [each.after["id"] for each in book.history.changes(outer).changes if each.after] == [1, 3]
    assert [each.after["id"] for each in book.history.changes(inner).changes if each.after] == [2]
    assert book.history.rows("items", 4).changes[0].who.shown()["position"] is None
    covered = book.record("bypass", after=3)
    assert book.history.rows("items", 4).changes[0].who.shown()["position"] == covered
    assert [each["id"] for each in book.state("items", end)] == [1, 2, 3]
