"""Whatever the history: at each position the state told is the one that was, and diffs lead from one to the next."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.history.told.byhand import Book

SETTINGS = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from("wwwwdkc"), st.sampled_from("xyz")), max_size=30)  # fmt: skip
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
