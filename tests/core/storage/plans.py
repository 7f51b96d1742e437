"""How a database goes about a query, asked of itself: used by tests that bound what a query costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actionbus import Bus


def rows_read(bus: Bus, sql: str, given: Any) -> int:
    """How many rows the nodes of a plan looked at, on PostgreSQL, when the query is run again."""
    with bus.engine.connect() as connection:
        (plan,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", given).scalar_one()
    return sum(_rows(plan["Plan"]))


def _rows(node: Any) -> Iterator[int]:
    if "Scan" in node["Node Type"]:
        yield int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
    for each in node.get("Plans", ()):
        yield from _rows(each)


def plan_of(bus: Bus, sql: str, given: Any) -> str:
    """How SQLite goes about it."""
    with bus.engine.connect() as connection:
        return "\n".join(str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", given))
