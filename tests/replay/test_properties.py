"""Random histories: what time travel, diff, bisect and fork say agrees with databases that ran only so far."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from actionbus.replay import Timeline
from actionbus.replay.bisect import bisect, sql_check
from actionbus.replay.fork import Forking
from tests.conftest import TORTURE
from tests.replay.conftest import open_bus
from tests.servers import Server
from tests.shop.app import make_application

State = dict[str, list[tuple[Any, ...]]]
ACCOUNT = st.integers(1, 4)
ACTION = st.one_of(
    st.tuples(st.just("open_account"), st.fixed_dictionaries({"id": ACCOUNT, "name": st.sampled_from("abcdef")})),
    st.tuples(st.just("deposit"), st.fixed_dictionaries({"id": ACCOUNT, "amount": st.integers(-1, 5)})),
    st.tuples(st.just("withdraw"), st.fixed_dictionaries({"id": ACCOUNT, "amount": st.integers(1, 5)})),
    st.tuples(st.just("transfer"), st.fixed_dictionaries(
        {"source": ACCOUNT, "target": ACCOUNT, "amount": st.integers(1, 5), "go_on": st.booleans()})),
    st.tuples(st.just("notify"), st.fixed_dictionaries(
        {"to": st.sampled_from(["ann", "nobody"]), "account": st.none() | ACCOUNT})),
    st.tuples(st.just("close_account"), st.fixed_dictionaries({"id": ACCOUNT, "raw": st.booleans()})),
)  # fmt: skip
HISTORY = st.lists(ACTION, min_size=1, max_size=25)


def state_of(bus: Bus) -> State:
    with bus.engine.connect() as connection:
        return {name: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {name} ORDER BY id"))]
                for name in ("accounts", "entries")}  # fmt: skip


class Lived:
    """A journal with the state after each position."""

    def __init__(self, bus: Bus, history: list[tuple[str, dict[str, Any]]]) -> None:
        self.bus = bus
        self.states: dict[int, State] = {0: state_of(bus)}
        self.actions: list[UUID] = []
        for name, arguments in history:
            given = {key: value for key, value in arguments.items() if value is not None}
            try:
                self.actions.append(bus.execute(name, given).action_id)
            except Exception:
                pass
            self.states[bus.journal.last()] = state_of(bus)


def in_timeline(timeline: Timeline) -> State:
    return {name: [tuple(row.values()) for row in timeline.rows(name)] for name in ("accounts", "entries")}


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    """Gives a new database whenever it is called."""
    made: list[URL] = []

    def new() -> URL:
        if request.param == "sqlite":
            return make_url("sqlite://")
        made.append(server.database())
        return made[-1]

    yield new
    for url in made:
        server.drop(url)


EXAMPLES = 300 if TORTURE else 6


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=HISTORY, data=st.data())
def test_time_travel_agrees_with_having_run_so_far(databases: Any, history: list[Any], data: st.DataObject) -> None:
    application = make_application()
    with open_bus(application, databases()) as bus, Timeline(bus.journal, application, databases()) as timeline:
        lived = Lived(bus, history)
        positions = list(lived.states)
        timeline.extend()
        assert timeline.problems() == {}
        for position in data.draw(st.permutations(positions)):
            timeline.go(position)
            assert in_timeline(timeline) == lived.states[position], f"at {position}"
        one, other = data.draw(st.tuples(st.sampled_from(positions), st.sampled_from(positions)))
        _diff_agrees(timeline, lived, one, other)
        _bisect_agrees(timeline, data)
        _fork_agrees(timeline, lived, data)


def _diff_agrees(timeline: Timeline, lived: Lived, one: int, other: int) -> None:
    expected = {}
    for table in ("accounts", "entries"):
        before = {row[0]: row for row in lived.states[one][table]}
        after = {row[0]: row for row in lived.states[other][table]}
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                expected[table, key] = (before.get(key), after.get(key))
    found = {
        (change.table, change.key[0]): (
            tuple(change.before.values()) if change.before else None,
            tuple(change.after.values()) if change.after else None,
        )
        for change in timeline.diff(one, other)
    }
    assert found == expected


def _bisect_agrees(timeline: Timeline, data: st.DataObject) -> None:
    sql = data.draw(st.sampled_from([
        "SELECT count(*) FROM entries WHERE id > 3", "SELECT count(*) FROM accounts WHERE name = 'b'",
        "SELECT coalesce(sum(balance), 0) > 4 FROM accounts",
    ]))  # fmt: skip
    positions = timeline.positions()
    check = sql_check(timeline, sql)
    linear = bisect(check, positions, 0, linear=True)
    found = bisect(check, positions, 0)
    holds = [check(position) for position in positions]
    if linear.position is None:
        assert found.position is None
    elif holds == sorted(holds):
        assert found.position == linear.position, "it holds from one action on"
    elif found.position is not None:
        number = positions.index(found.position)
        assert holds[number], "it holds here"
        assert number == 0 or not holds[number - 1], "and did not before"


def _fork_agrees(timeline: Timeline, lived: Lived, data: st.DataObject) -> None:
    assert Forking(timeline).run().rows == []
    if not lived.actions:
        return
    chosen = data.draw(st.sampled_from(lived.actions))
    entry = timeline.entry(chosen)
    unchanged = Forking(timeline, edit={chosen: dict(entry.submitted.arguments)}).run()
    assert (unchanged.rows, unchanged.ended) == ([], [])
    assert unchanged.met_at == entry.position, "the lines meet at once"
    head = max(timeline.positions())
    skipped = Forking(timeline, skip=[chosen]).run()
    timeline.go(head)
    assert in_timeline(timeline) == lived.states[max(lived.states)], "a fork leaves nothing"
    again = Forking(timeline, skip=[chosen]).run()
    assert (again.rows, [e.action_id for e in again.ended]) == (skipped.rows, [e.action_id for e in skipped.ended])
