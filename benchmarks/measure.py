"""`make bench`: prints every ratio with its goal; medians of interleaved rounds."""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Iterable
from multiprocessing.synchronize import Barrier
from typing import Any

import orjson
import psycopg2
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from actionbus.core.storage.table import COLUMNS, PAYLOADS
from benchmarks.cost import Cost, ServerCpu, commit_latency
from benchmarks.eventsourced import eventsourcing
from benchmarks.importing import importing
from benchmarks.setting import Contestant, append_outcomes, application, databases, describe, journaled, plain

CLIENTS = 8
CONTESTANTS = {"plain": plain, "journaled": journaled, "eventsourcing": eventsourcing}


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--rounds", type=int, default=20, help="interleaved rounds per comparison")
    parser.add_argument("--steps", type=int, default=50, help="transactions per round and contestant")
    parser.add_argument("--records", type=int, default=200_000, help="records that the reader reads")
    options = parser.parse_args()
    with databases() as urls:
        print(describe(urls))
        for name, of_plain, of_eventsourcing in (("postgresql", 0.70, 0.80), ("sqlite", 0.72, None)):
            one_client(name, urls[name], of_plain, of_eventsourcing, options)
            rounds = importing(name, urls[name], max(3, options.rounds // 5))
            _ratio("of one by one", [each["one by one"] / each["chunks"] for each in rounds], 2.3)
            _ratio("of plain SQLAlchemy in chunks", [each["plain"] / each["chunks"] for each in rounds], 0.75)
        eight_clients(urls["postgresql"], options)
        reading(urls["postgresql"], options.records)


def one_client(name: str, url: URL, of_plain: float, of_eventsourcing: float | None, options: Any) -> None:
    """One process, contestants in turn."""
    server = ServerCpu(url) if name == "postgresql" else None
    contestants = {who: make(url) for who, make in CONTESTANTS.items()}
    for each in contestants.values():
        _spent(each, options.steps * 3, None)
    rounds = [
        {who: _spent(each, options.steps, server) for who, each in contestants.items()} for _ in range(options.rounds)
    ]
    print(f"\n{name}, one client; a commit takes {commit_latency(url):.0f} µs")
    for who in contestants:
        wall, client, served = (_median(costs) / options.steps for costs in zip(*(r[who] for r in rounds), strict=True))
        print(f"  {who:<13} {wall:6.0f} µs, CPU {client:5.0f} µs" + (f" + {served:4.0f} µs server" if server else ""))
    _ratio("of plain SQLAlchemy", [each["plain"].wall / each["journaled"].wall for each in rounds], of_plain)
    _ratio("of its CPU", [_cpu(each["plain"]) / _cpu(each["journaled"]) for each in rounds])
    ratios = [each["eventsourcing"].wall / each["journaled"].wall for each in rounds]
    _ratio("of eventsourcing", ratios, of_eventsourcing)


def _median(nanoseconds: Iterable[int]) -> float:
    """In microseconds."""
    return statistics.median(nanoseconds) / 1e3


def _cpu(cost: Cost) -> int:
    return cost.client + cost.server


def _spent(contestant: Contestant, count: int, server: ServerCpu | None) -> Cost:
    contestant.before_round(count)
    before = Cost.begin(server)
    for number in range(count):
        contestant.step(number)
    return Cost.so_far(server).since(before)


def eight_clients(url: URL, options: Any) -> None:
    """Eight processes at once, contestants in turn; a round takes as long as its slowest process."""
    context = multiprocessing.get_context("spawn")
    gates = [context.Barrier(CLIENTS + 1), context.Barrier(CLIENTS + 1)]
    arguments = (url.render_as_string(hide_password=False), gates, options.rounds, options.steps)
    clients = [context.Process(target=_client, args=(number, *arguments)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    rounds = []
    for _ in range(options.rounds + 1):
        found = {}
        for who in CONTESTANTS:
            gates[0].wait(120)
            started = time.perf_counter()
            gates[1].wait(120)
            found[who] = time.perf_counter() - started
        rounds.append(found)
    for client in clients:
        client.join()
    rounds = rounds[1:]
    rates = {who: CLIENTS * options.steps / statistics.median(each[who] for each in rounds) for who in CONTESTANTS}
    print("\npostgresql, eight clients: " + ", ".join(f"{who} {rate:.0f}/s" for who, rate in rates.items()))
    _ratio("of plain SQLAlchemy", [each["plain"] / each["journaled"] for each in rounds], 0.68)
    _ratio("of eventsourcing", [each["eventsourcing"] / each["journaled"] for each in rounds], 1.05)


def _client(number: int, url: str, gates: list[Barrier], rounds: int, count: int) -> None:
    contestants = [make(make_url(url)) for make in CONTESTANTS.values()]
    for _ in range(rounds + 1):
        for contestant in contestants:
            contestant.before_round(count)
            gates[0].wait(120)
            for turn in range(count):
                contestant.step(number * 100 + turn)  # rows of its own: what is measured is not waiting for locks
            gates[1].wait(120)


def reading(url: URL, records: int) -> None:
    """Journal.read against a bare server-side cursor that decodes the same rows with orjson."""
    with Bus(application, url) as bus:
        _fill(bus, records)
        rounds = []
        for _ in range(3):
            started = time.perf_counter()
            bare = _read_bare(url)
            middle = time.perf_counter()
            ours = sum(1 for _ in Bus(application, bus.engine).journal.read())
            rounds.append((middle - started, time.perf_counter() - middle))
            assert bare == ours
    grown = _grown_by_reading(bus)
    rate = ours / statistics.median(each[1] for each in rounds)
    print(f"\nreading {ours} records: {rate:.0f}/s; memory grew by {grown:.1f} MiB from the first tenth to the end")
    _ratio("of a bare cursor with orjson", [bare_time / ours_time for bare_time, ours_time in rounds], 0.5)


def _grown_by_reading(bus: Bus) -> float:
    """MiB of peak memory that reading on takes, once a tenth is read."""
    last = bus.journal.settled()
    early = 0
    for record in bus.journal.read():
        if record.position == last // 10:
            early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early) / 1024


def _fill(bus: Bus, records: int) -> None:
    told = {"arguments": {"id": 5, "by": 1, "note": None}, "result": {"n": 7}}
    with bus.engine.begin() as connection:
        for start in range(0, records, 10_000):
            append_outcomes(connection, [told] * min(10_000, records - start))


def _read_bare(url: URL) -> int:
    connection = psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    payloads = [number for number, name in enumerate(COLUMNS) if name in PAYLOADS]
    columns = ", ".join(f"{name}::text" if name in PAYLOADS else name for name in COLUMNS)
    cursor = connection.cursor("bare")
    cursor.itersize = 1_000
    cursor.execute(f"SELECT {columns} FROM journal ORDER BY position")
    count = 0
    for row in cursor:
        for number in payloads:
            if row[number] is not None:
                orjson.loads(row[number])
        count += 1
    connection.close()
    return count


def _ratio(what: str, ratios: list[float], goal: float | None = None) -> None:
    found = statistics.median(ratios)
    told = "" if goal is None else f" (goal {goal:.2f}{'' if found >= goal else ', not reached'})"
    print(f"  {found:.2f} {what}{told}")
