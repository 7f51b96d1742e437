"""Random histories: a replay from any point, and a fork, agree with databases that ran only so far."""

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
from actionbus.replay import Replayer
from actionbus.replay.fork import Forking
from actionbus.replay.past.history import whole
from tests.conftest import TORTURE
from tests.replay.conftest import open_bus
from tests.servers import Server
from tests.shop.app import make_application

ALL = ("succeeded", "rejected", "denied", "failed")
State = dict[str, list[tuple[Any, ...]]]
ACCOUNT = st.integers(1, 4)
ACTION = st.one_of(
    st.tuples(st.just("open_account"), st.fixed_dictionaries({"id": ACCOUNT, "name": st.sampled_from("abcdef")})),
    st.tuples(st.just("deposit"), st.fixed_dictionaries({"id": ACCOUNT, "amount": st.integers(-1, 5)})),
    st.tuples(st.just("withdraw"), st.fixed_dictionaries({"id": ACCOUNT, "amount": st.integers(1, 5)})),
    st.tuples(
        st.just("transfer"),
        st.fixed_dictionaries(
            {"source": ACCOUNT, "target": ACCOUNT, "amount": st.integers(1, 5), "go_on": st.booleans()}
        ),
    ),
    st.tuples(
        st.just("notify"),
        st.fixed_dictionaries({"to": st.sampled_from(["ann", "nobody"]), "account": st.none() | ACCOUNT}),
    ),
    st.tuples(st.just("close_account"), st.fixed_dictionaries({"id": ACCOUNT, "raw": st.booleans()})),
)
HISTORY = st.lists(ACTION, min_size=1, max_size=25)


def state_of(bus: Bus) -> State:
    with bus.engine.connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {name} ORDER BY id"))]
            for name in ("accounts", "entries")
        }


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
def test_a_replay_from_anywhere_agrees_with_having_run(databases: Any, history: list[Any], data: st.DataObject) -> None:
    application = make_application()
    with open_bus(application, databases()) as bus:
        lived = Lived(bus, history)
        start = data.draw(st.sampled_from(list(lived.states)))
        for way in ("verify", "run"):
            with Replayer(bus.journal, application, databases()) as replayer:
                for step in getattr(replayer, way)(start, statuses=ALL):
                    assert step.verdict == "same", (step, step.why, step.differences)
                    assert in_sandbox(replayer) == lived.states[step.position], f"after {step}"
        _fork_agrees(lived, databases, data)


def in_sandbox(replayer: Replayer) -> State:
    return {name: [tuple(row.values()) for row in replayer.sandbox.rows(name)] for name in ("accounts", "entries")}


def _fork_agrees(lived: Lived, databases: Any, data: st.DataObject) -> None:
    if not lived.actions:
        return
    chosen = data.draw(st.sampled_from(lived.actions))
    journal, application = lived.bus.journal, make_application()
    entry = whole(journal, chosen)
    with Replayer(journal, application, databases()) as replayer:
        unchanged = Forking(replayer, edit={chosen: dict(entry.submitted.arguments)}).run()
    assert (unchanged.rows, unchanged.ended) == ([], [])
    assert unchanged.met_at == entry.position, "the lines meet at once"
    with Replayer(journal, application, databases()) as replayer:
        skipped = Forking(replayer, skip=[chosen]).run()
        there = in_sandbox(replayer)
    end = lived.states[max(lived.states)]
    if skipped.met_at is None:
        expected = _applied(end, [(c.table, c.before, c.after) for c in skipped.rows])
        assert there == expected, "the other line is history with the rows that differ"


def _applied(state: State, rows: list[tuple[str, Any, Any]]) -> State:
    told = {name: {row[0]: row for row in found} for name, found in state.items()}
    for table, before, after in rows:
        if before is not None:
            del told[table][next(iter(before.values()))]
        if after is not None:
            told[table][next(iter(after.values()))] = tuple(after.values())
    return {name: [found[key] for key in sorted(found)] for name, found in told.items()}
