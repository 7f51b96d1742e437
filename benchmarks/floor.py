"""How near plain SQLAlchemy any journal of ours could come on PostgreSQL: its records and triggers, and no gateway.

Run by hand: `python -m benchmarks.floor`. One function sends what an action sends (the submitted record with its lock,
BEGIN, the ORM's statements, the outcome with COMMIT and what puts the session back) over one connection that it keeps,
with texts made beforehand: no arguments are validated, nothing is retried, refused, scrubbed or logged.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus import Bus
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.values.determinism import lock_key, new_action_id
from benchmarks.cost import Cost, ServerCpu
from benchmarks.setting import ROWS, Contestant, Counter, application, databases, journaled, plain

_SUBMIT = (
    "EXECUTE actionbus_submit_unsynced_plain_submitted ('{id}', 'count_up', '1', 'bench', NULL, '{{}}', "
    "'{{\"id\":1,\"by\":1}}', '{seed}', {lock})"
)
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL actionbus.action = '{seed}'"
_OUTCOME = (
    "SET ROLE 'none'; SET CONSTRAINTS ALL IMMEDIATE; EXECUTE actionbus_append_plain ('{id}', 'count_up', '1', "
    "'bench', '2026-01-01 00:00:00+00:00', NULL, '{{\"id\":1,\"by\":1,\"note\":null}}', '{{\"n\":1}}', '{seen}', '1'); "
    "COMMIT; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD TEMP; EXECUTE actionbus_end"
)


def fused(url: URL) -> Contestant:
    """The two records and the image, around the same read and update."""
    bus = Bus(application, url)
    bus.execute("count_up", {"id": 0})  # which prepares the statements
    backend: Backend = bus.backend
    connection = backend.connection_for_action().__enter__()
    cursor = driver_connection(connection).cursor()

    def step(number: int) -> None:
        action_id = new_action_id()
        told: dict[str, Any] = {"id": action_id, "seed": action_id.hex, "lock": lock_key(action_id)}
        cursor.execute(_SUBMIT.format(**told))
        seen = cursor.fetchone()[1]
        cursor.execute(_BEGIN.format(**told))
        with Session(connection) as session:
            session.get_one(Counter, number % ROWS).n += 1
            session.flush()
            cursor.execute(_OUTCOME.format(**told, seen=seen))
            cursor.fetchone()

    return Contestant(step)


def main() -> None:
    """Measure interleaved."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor")
    parser.add_argument("--rounds", type=int, default=20, help="interleaved rounds")
    parser.add_argument("--steps", type=int, default=100, help="transactions per round and contestant")
    options = parser.parse_args()
    with databases() as urls:
        url, server = urls["postgresql"], ServerCpu(urls["postgresql"])
        contestants = {who: make(url) for who, make in {"plain": plain, "journaled": journaled, "fused": fused}.items()}
        rounds: list[dict[str, Cost]] = []
        for _ in range(options.rounds + 1):
            rounds.append({who: _spent(each, options.steps, server) for who, each in contestants.items()})
    for who in contestants:
        costs = zip(*(each[who] for each in rounds[1:]), strict=True)
        wall, client, served = (statistics.median(each) / options.steps / 1e3 for each in costs)
        of_wall = statistics.median(each["plain"].wall / each[who].wall for each in rounds[1:])
        of_cpu = statistics.median(_cpu(each["plain"]) / _cpu(each[who]) for each in rounds[1:])
        print(
            f"{who:<10} {wall:6.0f} µs, CPU {client:5.0f} µs + {served:4.0f} µs server; "
            f"{of_wall:.2f} of plain SQLAlchemy, {of_cpu:.2f} of its CPU"
        )


def _cpu(cost: Cost) -> int:
    return cost.client + cost.server


def _spent(contestant: Contestant, count: int, server: ServerCpu) -> Cost:
    before = Cost.so_far(server)
    for number in range(count):
        contestant.step(number)
    return Cost.so_far(server).since(before)


if __name__ == "__main__":
    main()
