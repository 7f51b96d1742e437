"""The search for what an action saw of others: what it goes through, and what it says where there is too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from actionbus.core.history.shapes import Shape
from actionbus.replay.past.nets import HeldRow, Net
from actionbus.replay.past.overlap import Given, Other, SeenOthers, others_of
from actionbus.replay.verdicts.explaining import Search, TriedWay

Seen = Sequence[int]
"""For each statement, how many of the others were committed before it."""


class Always:
    """Each statement is one to which all matter."""

    def to(self, given: Given, other: Other) -> bool:
        return True

    def tables(self, given: Given) -> frozenset[str]:
        return frozenset(["t"])

    def goes_on(self, given: Given) -> bool:
        return False


def others(number: int, written: Sequence[int] = ()) -> list[Other]:
    return [
        Other([], [Net("t", n, None, None)], frozenset(range(n)), written[n] if n < len(written) else 0)
        for n in range(number)
    ]


def searched(who: list[Other], statements: int, differing: Callable[[Seen], set[str]], writes: bool = False) -> Search:
    """An action of so many statements, each of which changes a row if it `writes`, as a function of what these saw."""

    def tried(seen: SeenOthers) -> TriedWay:
        count, at = len(who) - len(seen.taken_back()), []
        for number in range(1, statements + 1):
            count += len(seen.commits(Given(number, "SELECT", {}, number - 1 if writes else 0)))
            at.append(count)
        differences = differing(at)
        departs = min((int(each) for each in differences if each.isdigit()), default=None) if writes else None
        return TriedWay(frozenset(differences), True, departs, False)

    return Search(who, Always(), tried)


def unlike(truth: Seen) -> Callable[[Seen], set[str]]:
    """Each statement that saw something else differs."""
    return lambda at: {str(n) for n, (one, other) in enumerate(zip(at, truth, strict=True), start=1) if one != other}


@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 3], [0, 2, 2], [3, 3, 3], [0, 0, 3]])
def test_whatever_grows_from_statement_to_statement_is_found(truth: Seen) -> None:
    assert searched(others(3), 3, unlike(truth)).seen is not None


def test_all_is_gone_through_once_where_it_is_little() -> None:
    ways: list[Seen] = []
    search = searched(others(2), 3, lambda at: {"x"} if ways.append(list(at)) is None else set())
    assert (search.seen, search.is_complete, search.lasting) == (None, True, {"x"})
    narrow = ways[2 : 2 + 10]
    assert sorted(narrow) == sorted([a, b, c] for a in range(3) for b in range(a, 3) for c in range(b, 3)), (
        "each way once, after the two states of the beginning"
    )


def test_a_statement_that_changes_a_row_otherwise_ends_a_branch() -> None:
    truth = [0, 1, 2, 4, 6, 7, 9, 9, 10, 12]
    search = searched(others(12), 10, unlike(truth), writes=True)
    assert search.seen is not None
    assert search.tries < 150, "of 646,646 ways"


def test_what_comes_nearer_is_followed_first() -> None:
    search = searched(others(12), 10, unlike([0, 1, 2, 4, 6, 7, 9, 9, 10, 12]))
    assert search.seen is not None


def test_what_was_committed_behind_a_change_is_not_tried_before_it() -> None:
    seen: list[Seen] = []
    searched(others(1, written=[2]), 4, lambda at: {"x"} if seen.append(list(at)) is None else set(), writes=True)
    assert [0, 0, 1, 1] in seen
    assert [0, 1, 1, 1] not in seen
    assert [1, 1, 1, 1] not in seen


def test_where_there_is_more_than_can_be_tried_only_what_nothing_takes_away_counts() -> None:
    def differing(at: Seen) -> set[str]:
        return set() if at == [3, 3, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9] else {"odd" if sum(at) % 2 else "even"}

    search = searched(others(12), 12, differing)
    assert (search.is_complete, search.seen, search.lasting) == (False, None, frozenset())
    search = searched(others(12), 12, lambda at: differing(at) | {"bug"})
    assert (search.is_complete, search.seen, search.lasting) == (False, None, {"bug"})


@pytest.mark.parametrize("truth", [{0, 1, 2, 3, 5}, {1, 2}, {0, 2, 3, 4, 5}, {4}])
def test_one_that_was_committed_later_than_those_behind_it(truth: set[int]) -> None:
    """By one statement, to which more matter than all choices are tried of."""
    who = [each._replace(behind=frozenset()) for each in others(6)]

    def tried(seen: SeenOthers) -> TriedWay:
        there = set(range(6)) - {int(net.key) for net in seen.taken_back()}
        there |= {int(net.key) for net in seen.commits(Given(1, "SELECT", {}, 0))}
        return TriedWay(frozenset() if there == truth else frozenset(["x"]), True, None, False)

    search = Search(who, Always(), tried)
    assert search.seen is not None
    assert search.tries < 60


@pytest.mark.parametrize("key", [(), ("id",)])
def test_who_was_committed_after_whom_where_rows_have_no_key(key: tuple[str, ...]) -> None:
    """Rows of one table have nothing to do with each other, unless they are one, or alike."""
    shape = Shape(1, "public.t", ("id", "n"), ("integer",) * 2, key, (), True, datetime.now(UTC), 0)

    def net(before: tuple[int, int] | None, after: tuple[int, int] | None) -> Net:
        rows = [None if each is None else HeldRow(shape, f"({each[0]},{each[1]})") for each in (before, after)]
        return Net("public.t", str((after or before or ())[0]) if key else None, *rows)

    wrote = [net(None, (1, 1)), net(None, (2, 1)), net((2, 1), (2, 2)), net((1, 1), None), net(None, (3, 1))]
    records: list[Any] = [SimpleNamespace(position=n, xid=n, seen=None) for n in range(len(wrote))]
    found = others_of(records, lambda record: [wrote[record.position]], [], {})
    assert [set(each.behind) for each in found] == [set(), set(), {1}, {0}, set()]
