"""Imports: many actions in chunks, against one by one and against plain SQLAlchemy in transactions of the same size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus import Bus
from actionbus.core.gateway.chunk import MOST
from benchmarks.setting import ROWS, PlainCounter, application, plain_engine


def importing(name: str, url: URL, rounds: int) -> list[dict[str, float]]:
    """Seconds of each way for as many actions as a chunk has; in turn, so that what loads the machine meets all."""
    engine = plain_engine(url)
    runner = Bus(application, url).runner("bench")

    def plain() -> None:
        with Session(engine) as session:
            for number in range(MOST):
                session.get_one(PlainCounter, number % ROWS).n += 1
                session.flush()
                session.expunge_all()
            session.commit()

    def one_by_one() -> None:
        for number in range(MOST):
            runner.execute("count_up", {"id": number % ROWS, "by": 1})

    def in_chunks() -> None:
        runner.execute_many([("count_up", {"id": number % ROWS, "by": 1}) for number in range(MOST)])

    ways: dict[str, Callable[[], Any]] = {"plain": plain, "one by one": one_by_one, "chunks": in_chunks}
    for way in ways.values():
        way()
    found = [{what: _seconds(way) for what, way in ways.items()} for _ in range(rounds)]
    each = ", ".join(f"{what} {MOST / statistics.median(r[what] for r in found):.0f}/s" for what in ways)
    print(f"\n{name}, importing {MOST} at a time: {each}")
    return found


def _seconds(way: Callable[[], Any]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started
