"""Whatever the history: at each position the state told is the one that was, and diffs lead from one to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import count, permutations
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actionbus.core.history.bisecting import copy_of
from actionbus.core.history.decoding import UNKNOWN
from actionbus.core.history.fold import Fold
from tests.core.history.told.byhand import Book

SETTINGS = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from("wwwwdkc"), st.sampled_from("xyz")), max_size=30
)
"""Which transaction, which row, what it does (writes, deletes, changes the key, commits), with which value."""
NUMBERS = count()


class Transaction:
    """One of those that overlap: what it has changed, and whether as an action."""

    def __init__(self, number: int) -> None:
        self.xid = 1000 + next(NUMBERS)
        self.action = uuid4() if number % 2 else None
        self.rows: dict[int, tuple[Any, ...] | None] = {}


def written(book: Book, steps: list[tuple[int, int, str, str]], *, keyed: bool) -> tuple[str, dict[int, Counter[Any]]]:
    """The table of a random history, and its rows at each position of a record."""
    table = f"t{next(NUMBERS)}"
    shape = book.shape(table, "id value", "id" if keyed else "")
    rows: dict[int, tuple[Any, ...]] = {}
    running: dict[int, Transaction] = {}
    states: dict[int, Counter[Any]] = {}

    def locked(number: int, row: int) -> bool:
        return any(row in each.rows for n, each in running.items() if n != number)

    def change(own: Transaction, row: int, after: tuple[Any, ...] | None) -> None:
        before = own.rows.get(row, rows.get(row))
        own.rows[row] = after
        if before is not None or after is not None:
            book.image(shape, before, after, action=own.action, xid=own.xid)

    def commit(number: int) -> None:
        own = running.pop(number)
        for row, after in own.rows.items():
            rows.pop(row, None)
            if after is not None:
                rows[row] = after
        active = [each.xid for each in running.values()]
        lowest = min([own.xid, *active])
        kind = "outcome" if own.action else "bypass"
        at = book.record(kind, own.action, xid=own.xid, seen=f"{lowest}:{own.xid + 1}:", after=mark[0])
        mark[0] = book.last()
        states[at] = Counter(rows.values())

    mark = [book.last()]
    for number, row, what, value in steps:
        number = 0 if book.is_sqlite else number  # one writer
        if what == "c":
            if number in running:
                commit(number)
            continue
        own = running.setdefault(number, Transaction(number))
        if locked(number, row) or locked(number, row + 10):
            continue
        if what == "k":
            moved = own.rows.get(row, rows.get(row))
            change(own, row, None)
            if moved is not None:
                change(own, row + 10, (row + 10, moved[1]))
        else:
            change(own, row, None if what == "d" else (row, value))
    for number in list(running):
        commit(number)
    return table, states


@pytest.mark.parametrize("keyed", [True, False])
@SETTINGS
@given(steps=STEPS)
def test_the_state_at_each_position_is_the_one_that_was(book: Book, keyed: bool, steps: Any) -> None:
    table, states = written(book, steps, keyed=keyed)
    earlier: Counter[Any] = Counter()
    last = None
    for at, state in states.items():
        answer = book.history.state(table, at)
        assert Counter(tuple(each.values()) for each in answer.tables.popitem()[1]) == state
        assert answer.basis.gaps == ()
        if last is not None:
            found = book.history.diff(last, at, table).rows
            gone = Counter(tuple(each.before.values()) for each in found if each.before)
            come = Counter(tuple(each.after.values()) for each in found if each.after)
            assert (gone, come) == (earlier - state, state - earlier)
        earlier, last = state, at
    if keyed and states:
        for _, key, *_ in steps:
            changes = book.history.rows(table, key).changes
            held = changes[-1].after if changes else None
            assert (tuple(held.values()) if held else None) == next((row for row in earlier if row[0] == key), None)


CHANGES = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("wwwwwdug"), st.sampled_from("xy")), min_size=1, max_size=4),
    min_size=1,
    max_size=8,
)
"""Of each transaction, which rows it writes, deletes, changes unseen or again; `g` gives the table one more column."""


Sides = tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]


def disordered(book: Book, transactions: Any, rng: Any, *, keyed: bool) -> tuple[str, dict[int, list[Sides]]]:
    """A table of which one transaction's images have any order, changes are missing, and columns are added.

    With the images at each position.
    """
    table, key = f"t{next(NUMBERS)}", "id" if keyed else ""
    columns = ["id", "value"]
    shape = book.shape(table, " ".join(columns), key)
    rows: dict[int, list[Any]] = {}
    positions: dict[int, list[Sides]] = {}
    mark = book.last()
    # Without a key, what is missing under one shape may be found under another: which rows are there is anybody's guess.
    may_miss = keyed or not any(what == "g" for changes in transactions for _, what, _ in changes)
    for changes in transactions:
        xid, images = 1000 + next(NUMBERS), []
        for row, what, value in changes:
            if what == "g" and not images and len(columns) < 4:
                columns.append(f"more{len(columns)}")
                shape = book.shape(table, " ".join(columns), key)
                rows = {number: [*held, None] for number, held in rows.items()}
                continue
            before, after = rows.get(row), None if what == "d" else [row, *[value] * (len(columns) - 1)]
            rows.pop(row, None)
            if after is not None:
                rows[row] = after
            if (what != "u" or not may_miss) and (before or after):
                images.append((before, after))
        rng.shuffle(images)
        images = [(before and tuple(before), after and tuple(after)) for before, after in images]
        for before, after in images:
            book.image(shape, before, after, xid=xid)
        positions[book.record("bypass", xid=xid, seen=f"{xid}:{xid + 1}:", after=mark)] = images
        mark = book.last()
    return table, positions


def by_trying(records: Iterable[list[Sides]]) -> tuple[list[tuple[Any, ...]], int]:
    """The rows by their key, by trying each order of a record's images, and how many have a gap."""
    rows: dict[Any, tuple[Any, ...] | None] = {}
    gaps = set()
    for images in records:
        for key in {(before or after)[0] for before, after in images if before or after}:
            own = [each for each in images if (each[0] or each[1] or [None])[0] == key]
            ends = [
                order[-1][1]
                for order in permutations(own)
                if all(left == taken for left, (taken, _) in zip([rows.get(key), *(e[1] for e in order)], order))  # noqa: B905
            ]
            if not ends:
                gaps.add(key)
            rows[key] = ends[0] if ends else own[-1][1]
    return known({"id": row[0], "value": row[1]} for row in rows.values() if row), len(gaps)


def known(rows: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in rows), key=repr)


@pytest.mark.parametrize("keyed", [True, False])
@SETTINGS
@given(transactions=CHANGES, rng=st.randoms(use_true_random=False))
def test_the_quick_ways_tell_what_all_images_tell(book: Book, keyed: bool, transactions: Any, rng: Any) -> None:
    """A state by chains, its pages, and the copies that a bisect asks, beside the multiset of all images.

    Where changes went unseen, which the sum alone does not always notice, beside each order of images that is possible.
    """
    table, images = disordered(book, transactions, rng, keyed=keyed)
    positions = list(images)
    done = {what for changes in transactions for _, what, _ in changes}
    with book.history.opened(positions[-1], with_copies=True) as high, copy_of(high, [high.one(table)]) as copy:
        for at in positions:
            opened = high.at(at)
            recorded = opened.one(table)
            fold = Fold(recorded.shapes, high.images.values)
            summed = fold.settle(high.images.residue(recorded.shapes, recorded.since_image, opened.cut))
            expected = known(
                recorded.columns_of(each.shape, [each.row])[0] for each in summed.rows for _ in range(each.times)
            )
            answer = book.history.state(table, at)
            told = known(answer.tables.popitem()[1])
            if keyed and "g" not in done:
                assert (told, len(answer.basis.gaps)) == by_trying(images[each] for each in positions if each <= at)
            elif not keyed or "u" not in done:
                assert len(told) == len(expected)
                # The sum forgets what became known of a row that a later change gave its old values again.
                for row, other in zip(told, expected, strict=True):
                    assert all(one == two or two is UNKNOWN for one, two in zip(row, other, strict=True))
                assert len(answer.basis.gaps) == len(summed.broken)
            copy.go(opened)
            assert copy.holds(f"SELECT count(*) = {len(told)} FROM {table}")
            for row, count_ in Counter(told).items():
                names = recorded.shape.columns
                where = " AND ".join(
                    f"{name} IS NULL" if value is None or value is UNKNOWN else f"{name} = '{value}'"
                    for name, value in zip(names, row, strict=True)
                )
                assert copy.holds(f"SELECT count(*) >= {count_} FROM {table} WHERE {where}"), where
    if keyed:
        for at in positions:
            whole = book.history.state(table, at).tables.popitem()[1]
            paged: list[Any] = []
            while page := book.history.state(
                table, at, limit=2, after=paged[-1]["id"] if paged else None
            ).tables.popitem()[1]:
                paged += page
            assert paged == whole
