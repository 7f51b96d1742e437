"""How near plain SQLAlchemy any journal of ours could come: its records and triggers, and no gateway.

Run by hand: `python -m benchmarks.floor`. One function sends what an action sends (the submitted record with its lock,
BEGIN, the ORM's statements, the outcome with COMMIT and what puts the session back) over one connection that it keeps,
with texts made beforehand: no arguments are validated, nothing is retried, refused, scrubbed or logged. On SQLite it
locks nothing either, since that is done by the gateway and not by the database.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus import Bus
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.sqlite_guard import COMMIT, MARK
from actionbus.core.storage.sqlite_images import Ranges
from actionbus.core.storage.sqlite_statements import OUTCOME, OWN, SUBMIT, SUBMITTED
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
_VALUES: Final = {
    "action": "count_up",
    "actor": "bench",
    "arguments": '{"id":1,"by":1,"note":null}',
    "context": "{}",
    "duration_us": 1,
    "format": 1,
    "handler_version": 1,
    "result": '{"n":1}',
    "started_at": "2026-01-01 00:00:00.000000",
    "status": "succeeded",
}


def fused(url: URL) -> Contestant:
    """The two records and the image, around the same read and update."""
    bus = Bus(application, url)
    bus.execute("count_up", {"id": 0})  # which prepares the statements
    connection = bus.backend.connection_for_action().__enter__()
    on = {"postgresql": _on_postgresql, "sqlite": _on_sqlite}[url.get_backend_name()]
    return Contestant(on(connection))


def _on_postgresql(connection: Connection) -> Callable[[int], None]:
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

    return step


def _on_sqlite(connection: Connection) -> Callable[[int], None]:
    execute = driver_connection(connection).execute

    def step(number: int) -> None:
        action_id = new_action_id()
        told = {**_VALUES, "action_id": action_id.hex, "correlation_id": str(action_id), "seed": action_id.hex}
        execute("PRAGMA synchronous=NORMAL")
        execute(SUBMIT, [told.get(column) for column in SUBMITTED])
        execute("PRAGMA synchronous=FULL")
        execute("BEGIN IMMEDIATE")
        images = Ranges(driver_connection(connection))
        execute(f"SAVEPOINT {MARK}")
        with Session(connection) as session:
            session.get_one(Counter, number % ROWS).n += 1
            session.flush()
            execute(f"RELEASE {MARK}")
            told["seen"] = str(images.position)
            execute(OWN, [*(told.get(column) for column in OUTCOME), images.before])
            execute(COMMIT)

    return step


def main() -> None:
    """Measure interleaved, one database after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor")
    parser.add_argument("--rounds", type=int, default=20, help="interleaved rounds")
    parser.add_argument("--steps", type=int, default=100, help="transactions per round and contestant")
    options = parser.parse_args()
    with databases() as urls:
        for name, url in urls.items():
            print(f"{name}:")
            server = ServerCpu(url) if name == "postgresql" else None
            contestants = {"plain": plain(url), "journaled": journaled(url), "fused": fused(url)}
            rounds: list[dict[str, Cost]] = []
            for _ in range(options.rounds + 1):
                rounds.append({who: _spent(each, options.steps, server) for who, each in contestants.items()})
            _tell(rounds[1:], options.steps)


def _tell(rounds: list[dict[str, Cost]], steps: int) -> None:
    for who in rounds[0]:
        costs = zip(*(each[who] for each in rounds), strict=True)
        wall, client, served = (statistics.median(each) / steps / 1e3 for each in costs)
        of_wall = statistics.median(each["plain"].wall / each[who].wall for each in rounds)
        of_cpu = statistics.median(_cpu(each["plain"]) / _cpu(each[who]) for each in rounds)
        print(
            f"{who:<10} {wall:6.0f} µs, CPU {client:5.0f} µs + {served:4.0f} µs server; "
            f"{of_wall:.2f} of plain SQLAlchemy, {of_cpu:.2f} of its CPU"
        )


def _cpu(cost: Cost) -> int:
    return cost.client + cost.server


def _spent(contestant: Contestant, count: int, server: ServerCpu | None) -> Cost:
    before = Cost.so_far(server)
    for number in range(count):
        contestant.step(number)
    return Cost.so_far(server).since(before)


if __name__ == "__main__":
    main()
