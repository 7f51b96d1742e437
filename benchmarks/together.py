"""Many projections in one process, of tiny documents: what each costs as there are more of them.

CPU seconds of this process alone, without those of watching it, so that other work on the machine counts for little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.local_elasticsearch.server import LocalServer
from actionbus.projections import Projection, Projector, on
from actionbus.projections.store import Store
from benchmarks.projecting import fill
from benchmarks.setting import databases

_KEYS = 16


def _key(record: Any) -> str:
    return str(record.position % _KEYS)


def tallies(count: int) -> list[type[Projection]]:
    """Projections that count records in few documents, so that reading and folding are all there is to do."""

    class Tally(Projection):
        mappings = {"properties": {"n": {"type": "long"}}}

        @on("count_up", key=_key)
        def counted(self, document: dict[str, Any] | None, record: Any) -> dict[str, Any]:
            return {"n": (document["n"] if document else 0) + 1}

    return [type(f"Tally{number}", (Tally,), {"name": f"tally{number}"}) for number in range(count)]


def main() -> None:
    """Measure 1, 5 and 10 projections, interleaved; each also with a reading of its own, as before they shared one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.together")
    parser.add_argument("--records", type=int, default=50_000, help="records to catch up with")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds")
    parser.add_argument("--counts", default="1,5,10", help="how many projections")
    parser.add_argument("--stores", default="embedded,elasticsearch", help="where the documents go")
    options = parser.parse_args()
    counts = [int(each) for each in options.counts.split(",")]
    with ExitStack() as stack:
        url = stack.enter_context(databases(are_empty=True))["postgresql"]
        bus = Bus(Application("bench", actions=["benchmarks.actions"]), url)
        bus.create()
        fill(bus, options.records, 1)
        stores: dict[str, Store] = {}
        if "embedded" in options.stores:
            stores["embedded"] = EmbeddedStore(bus.engine)
        if "elasticsearch" in options.stores:
            server = LocalServer(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            stores["elasticsearch"] = ElasticsearchStore(server.start())
            stack.callback(server.stop)
        for name, store in stores.items():
            rounds = [
                {
                    (count, is_apart): _caught_up(url, store, count, options.records, is_apart=is_apart)
                    for count in counts
                    for is_apart in ((False, True) if count > 1 else (False,))
                }
                for _ in range(options.rounds)
            ]
            print(
                f"\n{name}, {options.records:,} records, {options.rounds} rounds, load {os.getloadavg()[0]:.1f}: "
                "CPU µs for a record and a projection, and records/s of each, if the CPU were ours alone"
            )
            for count, is_apart in rounds[0]:
                cpu, wall = (statistics.median(each[count, is_apart][side] for each in rounds) for side in (0, 1))
                how = ", each with a reading of its own" if is_apart else ""
                print(
                    f"  {count:2} projections{how}: {cpu / count / options.records * 1e6:5.2f} µs, "
                    f"{options.records / cpu:8,.0f}/s each (on this machine, now: {options.records / wall:,.0f}/s)"
                )
            for count in (each for each in counts if each > 1):
                gain = statistics.median(each[count, True][1] / each[count, False][1] for each in rounds)
                print(f"  {count} projections are {gain:.2f} times as fast as with readings of their own")
        bus.close()


def _caught_up(url: URL, store: Store, count: int, records: int, *, is_apart: bool) -> tuple[float, float]:
    """CPU seconds, and seconds, that so many projections take for all records, one projector feeding them all, or one
    each."""
    projections = tallies(count)
    bus = Bus(Application("bench", actions=["benchmarks.actions"], projections=projections), url)
    _forget(bus, store, projections)
    names = [projection.name for projection in projections]
    projectors = [Projector(bus, store, [name]) for name in names] if is_apart else [Projector(bus, store)]
    catalogue = projectors[0].catalogue
    for projection in projections:
        catalogue.ensure(projection)
    last, stop = bus.journal.settled(wait=True), threading.Event()
    cpu, wall, watching = time.process_time(), time.perf_counter(), time.thread_time()
    running = [threading.Thread(target=projector.run, args=(stop,)) for projector in projectors]
    for each in running:
        each.start()
    while any(row.position < last for row in catalogue.ledger.checkpoints()):
        time.sleep(0.05)
    watching = time.thread_time() - watching
    taken = time.process_time() - cpu - watching, time.perf_counter() - wall
    stop.set()
    for each in running:
        each.join()
    for projection in projections:
        index = str(store.aliased(projection.name))
        store.refresh(index)
        assert sum((each.document or {})["n"] for _, each in store.scan(index)) == records, projection.name
    bus.close()
    return taken


def _forget(bus: Bus, store: Store, projections: list[type[Projection]]) -> None:
    for projection in projections:
        for index in store.indices(projection.name):
            store.delete_index(index)
    with bus.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM actionbus_checkpoints")


if __name__ == "__main__":
    main()
