"""Canaries: what is taken from inside of SQLAlchemy is there still, and means what it meant."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import QueuePool

from actionbus.core.storage.sqlalchemy_inside import left_taken, stands_upon


def test_a_pools_connection_is_left_taken_when_what_stood_upon_it_is_closed(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'any.db'}", poolclass=QueuePool, pool_size=1, max_overflow=0)
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    first = engine.connect()
    below = first.connection
    left_taken(first)
    assert first.closed
    assert below.is_valid
    assert pool.checkedout() == 1
    for _ in range(2):  # a second time as the first: nothing is counted that is not given back
        again = Connection(engine, below)
        assert again.execute(text("SELECT 1")).scalar_one() == 1
        again.rollback()
        left_taken(again)
        assert pool.checkedout() == 1
    below.close()
    assert (pool.checkedout(), below.is_valid) == (0, False)
    engine.dispose()


def test_a_connection_stands_upon_the_pools_until_it_is_closed_or_invalidated(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'any.db'}")
    closed, invalidated, returned = (engine.connect() for _ in range(3))
    for each in (closed, invalidated, returned):
        assert stands_upon(each) is each.connection
    closed.close()
    invalidated.invalidate()
    returned.connection.close()
    assert [stands_upon(each) for each in (closed, invalidated, returned)] == [None, None, None]
    engine.dispose()
