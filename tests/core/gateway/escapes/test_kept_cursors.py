"""A cursor of the driver's connection that a handler keeps sends nothing once its action has ended (G2)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from actionbus import Bus, Misuse
from tests.conftest import query
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application

LATE = "INSERT INTO accounts (id, name, balance) VALUES (9, 'late', 0)"
WAYS: dict[str, Callable[[Any], Any]] = {
    "execute": lambda cursor: cursor.execute(LATE),
    "executemany": lambda cursor: cursor.executemany(LATE, [()]),
    "callproc": lambda cursor: cursor.callproc("pg_backend_pid"),
    "copy_expert": lambda cursor: cursor.copy_expert(
        "COPY accounts (id, name, balance) FROM STDIN", io.StringIO("9\tl\t0")
    ),
}


@pytest.fixture
def bus(databases: dict[str, URL]) -> Iterator[Bus]:
    """On PostgreSQL, with a pool of one connection, so that what is kept is the next action's."""
    query(databases["postgresql"], "DELETE FROM accounts")
    engine = create_engine(databases["postgresql"], poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=2)
    with Bus(make_application(), engine) as bus:
        yield bus
    engine.dispose()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ends", ["succeeded", "failed"])
def test_a_kept_cursor_comes_too_late(bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, ends: str) -> None:
    kept: list[Any] = []

    def keep(handler: Any) -> None:
        kept.append(handler.session.connection().connection.cursor())
        kept[0].execute("SELECT 1")
        if ends == "failed":
            raise ValueError

    def use(_handler: Any) -> None:
        with pytest.raises(Misuse, match="comes too late"):
            WAYS[way](kept[0])

    monkeypatch.setattr(CallBack, "function", keep)
    try:
        bus.execute("call_back")
    except ValueError:
        assert ends == "failed"
    use(None)
    monkeypatch.setattr(CallBack, "function", use)
    assert bus.execute("call_back").status == "succeeded"
    use(None)
    with bus.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM accounts").scalar() == 0
