"""`python -m benchmarks.growing [RECORDS]`: whether writing and reading take longer in a journal that has grown.

Two journals on one server, one of a twentieth of the records (`many_stays`): each read is asked of both in turn, at
random places, and told by its median and 95th percentile, by the clock and of the processor's time, here and in the
database; an action, and the same without us, of an empty journal and of both. By default five million records on
PostgreSQL; `--on sqlite`, a million.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psutil
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from benchmarks.cost import Cost, ServerCpu
from benchmarks.inspecting import Places, api_of, measured, middle_and_p95, processor_s, servers_of
from benchmarks.many_stays import fill
from benchmarks.setting import Contestant, application, journaled, plain, prepare
from tests.servers import Server

GOAL_MS = 100
_SMALLER = 20
Ask = Callable[[], Any]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growing")
    parser.add_argument("records", type=int, nargs="?")
    parser.add_argument("--on", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", default="", metavar="WORD", help="Only reads whose name has it.")
    given = parser.parse_args()
    actions = (given.records or (5_000_000 if given.on == "postgresql" else 1_000_000)) // 2
    with _three(given.on) as (empty, small, grown):
        prepare(empty)
        for url, count in ((small, actions // _SMALLER), (grown, actions)):
            begun = time.perf_counter()
            fill(url, count)
            print(f"{2 * count:,} records made in {time.perf_counter() - begun:.0f} s, load {os.getloadavg()[0]:.1f}")
        _reads((small, actions // _SMALLER), (grown, actions), given.rounds, given.only)
        if not given.only:
            _writes({"empty": empty, "small": small, "grown": grown})
            _sizes(grown)


@contextmanager
def _three(kind: str) -> Iterator[list[URL]]:
    """Empty databases."""
    if kind == "sqlite":
        with TemporaryDirectory(dir=".") as folder:
            yield [make_url(f"sqlite:///{Path(folder) / name}.db") for name in ("empty", "small", "grown")]
        return
    server = Server("fsync = on\nmax_wal_size = 4GB\n")
    try:
        yield [server.database() for _ in range(3)]
    finally:
        server.close()


class Journal(NamedTuple):
    """One of the two that are asked."""

    bus: Bus
    client: Any
    places: Places

    def asked(self) -> dict[str, Ask]:
        """By name, what is asked of it each time anew."""

        def new_process(ask: Callable[[Bus], Any]) -> Ask:
            def do() -> None:
                with Bus(measured, self.bus.engine) as bus:
                    ask(bus)

            return do

        def page(path: Callable[[], str]) -> Ask:
            def do() -> None:
                answer = self.client.get(asked := path())
                assert answer.status_code == 200, (asked, answer.text[:500])

            return do

        journal = self.bus.journal
        return {
            "settled, of a new process": new_process(lambda bus: bus.journal.settled()),
            "stats, of a new process": new_process(lambda bus: bus.journal.stats()),
            "recovery, of a new process": new_process(lambda bus: bus.recover()),
            "the last 50": lambda: journal.tail(50),
            **{name: page(path) for name, path in self.places.answers().items()},
        }


def _reads(small: tuple[URL, int], grown: tuple[URL, int], rounds: int, only: str) -> None:
    journals = []
    for url, actions in (small, grown):
        bus = Bus(measured, url)
        begun = time.perf_counter()
        bus.journal.stats()  # counted once, and from then on kept
        print(f"the first count of {2 * actions:,} records: {time.perf_counter() - begun:.1f} s")
        journals.append(Journal(bus, api_of(bus), Places(bus, actions)))
    print(f"ms, median and p95{'':<22}by the clock: small      grown     of the processor: small      grown")
    gc.freeze()  # as a server does that has loaded its application, lest each collection go through all of that
    asked = [each.asked() for each in journals]
    for name in asked[0]:
        if only not in name:
            continue
        before = _memory()
        spent = _spent([each[name] for each in asked], [str(each.bus.engine.url.database) for each in journals], rounds)
        found = [middle_and_p95(each) for each in spent]
        told = "   ".join(f"{middle:8.1f} {most:8.1f}" for middle, most in found)
        grew = f"  +{grew:.0f} MiB" if (grew := _memory() - before) > 1 else ""
        print(f"  {name:<36} {told}{'' if found[1][1] < GOAL_MS else '  !'}{grew}", flush=True)
    print(f"this process: {_memory():.0f} MiB, load {os.getloadavg()[0]:.1f}")
    for each in journals:
        each.bus.close()


def _spent(asks: list[Ask], databases: list[str], rounds: int) -> list[list[float]]:
    """Seconds by the clock of each, and of the processor, after once that does not count."""
    clock: list[list[float]] = [[] for _ in asks]
    cpu: list[list[float]] = [[] for _ in asks]
    for turn in range(rounds + 1):
        for number, ask in enumerate(asks):
            servers = servers_of(databases[number])
            begun, used = time.perf_counter(), processor_s(servers)
            ask()
            if turn:
                clock[number].append(time.perf_counter() - begun)
                cpu[number].append(processor_s(servers) - used)
    return clock + cpu


def _memory() -> float:
    return float(psutil.Process().memory_info().rss / 1_048_576)


def _writes(urls: dict[str, URL], rounds: int = 30, steps: int = 50) -> None:
    """An action and the bare transaction, each journal in turn."""
    server = ServerCpu(urls["empty"]) if urls["empty"].get_backend_name() == "postgresql" else None
    contestants: dict[tuple[str, str], Contestant] = {}
    for name, url in urls.items():
        if name != "empty":
            prepare(url)
        contestants[name, "plain"], contestants[name, "action"] = plain(url), journaled(url)
    costs: dict[tuple[str, str], list[Cost]] = {each: [] for each in contestants}
    for turn in range(rounds + 1):
        for each, contestant in contestants.items():
            before = Cost.begin(server)
            for number in range(steps):
                contestant.step(turn * steps + number)
            costs[each] += [Cost.so_far(server).since(before)] if turn else []
    for name in urls:
        pairs = list(zip(costs[name, "plain"], costs[name, "action"], strict=True))
        by_clock = statistics.median(one.wall / other.wall for one, other in pairs)
        of_cpu = statistics.median((one.client + one.server) / (other.client + other.server) for one, other in pairs)
        spent = [statistics.median(each) / steps / 1e3 for each in zip(*costs[name, "action"], strict=True)]
        told = "an action {:.0f} µs, CPU {:.0f} + {:.0f} in the server".format(*spent)
        print(f"journal {name}: {by_clock:.3f} of plain, {of_cpu:.3f} of its CPU; {told}")
    print(f"load {os.getloadavg()[0]:.1f}")


def _sizes(url: URL) -> None:
    """Bytes of tables and indexes."""
    if url.get_backend_name() == "sqlite":
        print(f"the file: {Path(str(url.database)).stat().st_size / 1e6:,.0f} MB")
        return
    with Bus(application, url) as bus, bus.engine.connect() as connection:
        for table in ("journal", "actionbus_images"):
            sizes = text(f"SELECT pg_table_size('{table}'), pg_indexes_size('{table}')")
            own, indexes = connection.execute(sizes).one()
            print(f"{table}: {own / 1e6:,.0f} MB, its indexes {indexes / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
