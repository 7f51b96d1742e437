"""A state that is longer than what is fetched at once, on PostgreSQL: all of it, with gaps in it, and given up halfway."""

from __future__ import annotations

from itertools import islice

import pytest
from sqlalchemy import create_engine

from actionbus import History
from actionbus.core.history.fetching import _AT_ONCE
from tests.core.history.capturing import TABLE, Captured

ROWS = 2 * _AT_ONCE + 600
UNSEEN = (1, _AT_ONCE, ROWS - 3)


@pytest.fixture
def long(captured: Captured) -> Captured:
    """A long table, of which some rows were changed unseen."""
    captured.run(TABLE)
    captured.install("things")
    captured.run(f"INSERT INTO things SELECT n, 'value ' || n FROM generate_series(1, {ROWS}) n")
    captured.run(
        'ALTER TABLE things DISABLE TRIGGER "!actionbus_update"',
        f"UPDATE things SET v = 'unseen' WHERE id IN {UNSEEN}",
        'ALTER TABLE things ENABLE ALWAYS TRIGGER "!actionbus_update"',
        f"UPDATE things SET v = v || '!' WHERE id IN {UNSEEN} OR id % 7 = 0",
    )
    return captured


def test_a_long_state_is_whole_and_its_gaps_are_told(long: Captured) -> None:
    answer = long.bus.history.state("things")
    [rows] = answer.tables.values()
    assert [(each["id"], each["v"]) for each in rows] == long.rows(
        "SELECT * FROM things ORDER BY id::text || ')' COLLATE \"C\""
    )
    assert {each.key["id"] for each in answer.basis.gaps} == set(UNSEEN)


@pytest.mark.parametrize("read", [1, 501, _AT_ONCE + 501])
def test_a_state_that_is_given_up_leaves_the_connection_as_it_was(long: Captured, read: int) -> None:
    engine = create_engine(long.bus.engine.url, pool_size=1, max_overflow=0)
    history = History(engine)
    with history.streamed("things") as streamed:
        for _, rows in streamed:
            assert len(list(islice(rows, read))) == read
    assert streamed.basis.position == history.basis().position
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE mine (id int)")
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_cursors").scalar() == 0
    assert len(history.state("things", limit=3).tables.popitem()[1]) == 3
    engine.dispose()
