"""Projections against what they stand on: `helpers.bulk` for Elasticsearch, a bare executemany for the database."""

from __future__ import annotations

import argparse
import gc
import os
import resource
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from elasticsearch import Elasticsearch, helpers
from sqlalchemy import Column, Engine, MetaData, Table, insert
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.local_elasticsearch.server import LocalServer
from actionbus.projections import Projection, Projections, Projector, on
from actionbus.projections.feeder import BATCH
from actionbus.projections.ledger import Ledger
from actionbus.projections.store import IndexInfo, Store, Write
from benchmarks.setting import append_outcomes, databases, prepare

_PAGE = 10_000
_LIVE_S, _PER_SECOND = 10, 200
_BIG_ONES = 400
_HEAP_MIB = 2048
"""Of Elasticsearch: with less, a million documents that `helpers.bulk` writes can be too many for it."""


class Counters(Projection):
    """One document per key, of the size that small read models have."""

    mappings = {"properties": {"name": {"type": "keyword"}, "tags": {"type": "keyword"}, "n": {"type": "long"}}}

    @on("count_up", key="key")
    def counted(self, document: dict[str, Any] | None, record: Any) -> dict[str, Any]:
        """Count."""
        given = record.arguments
        return {"name": given["name"], "tags": given["tags"], "n": (document["n"] if document else 0) + 1}


class Totals(Projection):
    """The last count of every counter, for the lag of live traffic."""

    @on("count_up", key="id")
    def counted(self, document: dict[str, Any] | None, record: Any) -> dict[str, Any]:
        """Remember."""
        return {"n": record.result["n"]}


busy = Application("bench", actions=["benchmarks.actions"], projections=[Totals])
application = Application("bench", actions=["benchmarks.actions"], projections=[Counters])


def main() -> None:
    """Measure projections."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.projecting")
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000], help="records to catch up with")
    parser.add_argument("--only", choices=["store", "embedded", "live", "memory"], help="only one part")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds per comparison")
    parser.add_argument(
        "--per-document", type=int, nargs="+", default=[1, 10], help="records that fold into a document"
    )
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="also fold N records, and watch the memory")
    options = parser.parse_args()
    with databases(are_empty=True) as urls, tempfile.TemporaryDirectory() as folder:
        server = LocalServer(Path(folder), _HEAP_MIB)
        url = server.start()
        try:
            # Memory first: its peak is that of the process, and what is compared below is kept in it.
            if options.only in (None, "memory"):
                memory_of_big_ones(urls["postgresql"], url)
            if options.memory:
                memory(urls["postgresql"], url, options.memory)
            if options.only in (None, "live"):
                live(urls["postgresql"], url)
            if options.only in (None, "store"):
                for records in options.records:
                    for per_document in options.per_document:
                        catching_up(urls["postgresql"], url, options.rounds, records, per_document)
            if options.only in (None, "embedded"):
                for name in ("postgresql", "sqlite"):
                    embedded(urls[name], options.rounds, options.records[0])
        finally:
            server.stop()


def fill(bus: Bus, records: int, per_document: int) -> None:
    """Outcomes of an action, those of a document one after the other."""
    with bus.engine.begin() as connection:
        for start in range(0, records, _PAGE):
            numbers = range(start, min(start + _PAGE, records))
            append_outcomes(connection, [{"arguments": _arguments(number // per_document)} for number in numbers])


def _arguments(number: int) -> dict[str, Any]:
    return {"key": f"document-{number:09}", "name": f"number {number}", "tags": ["a", f"t{number % 7}"]}


def _emptied(url: URL, app: Application = application) -> Bus:
    bus = Bus(app, url)
    with bus.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        else:
            kinds = "SELECT type, name FROM sqlite_master WHERE type IN ('view', 'table') AND name NOT LIKE 'sqlite_%'"
            found = connection.exec_driver_sql(f"{kinds} ORDER BY sql NOT LIKE '%VIRTUAL%'").all()
            for kind, name in found:  # a virtual table takes its own along
                connection.exec_driver_sql(f"DROP {kind} IF EXISTS {name}")
    prepare(url)
    return bus


def _forget(bus: Bus, store: Store) -> None:
    is_served = isinstance(store, EmbeddedStore) and store.aliased("counters")  # else its tables may not be there yet
    for index in store.indices("counters"):
        store.delete_index(index)
    with bus.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM actionbus_checkpoints")
        if is_served:
            connection.exec_driver_sql("DELETE FROM projection_aliases")


def catching_up(url: URL, elasticsearch: str, rounds_asked: int, records: int, per_document: int) -> None:
    """From the journal into Elasticsearch, against helpers.bulk with the same final documents; who is first alternates.

    Each has its index made beforehand, and the other's is gone.
    """
    bus = _emptied(url)
    fill(bus, records, per_document)
    store = ElasticsearchStore(elasticsearch)
    client = Elasticsearch(elasticsearch, request_timeout=60)
    final = [
        (each["key"], {"name": each["name"], "tags": each["tags"], "n": per_document})
        for each in map(_arguments, range(records // per_document))
    ]
    gc.collect()
    gc.freeze()  # else each collection while one of the two works looks through what is to be written

    def ours() -> float:
        client.indices.delete(index="bare", ignore_unavailable=True)
        _forget(bus, store)
        projector = Projector(bus, store)
        projector.catalogue.ensure(Counters)
        started = time.perf_counter()
        projector.catch_up()
        taken = time.perf_counter() - started
        index = str(store.aliased("counters"))
        assert store.totals(index).documents == len(final)
        assert store.get_many(index, [final[0][0]])[final[0][0]].document == final[0][1]
        return taken

    def bare() -> tuple[float, float]:
        _forget(bus, store)
        client.indices.delete(index="bare", ignore_unavailable=True)
        client.indices.create(index="bare", mappings=Counters.mappings)
        started = time.perf_counter()
        helpers.bulk(client, _actions(final))
        written = time.perf_counter() - started
        client.indices.refresh(index="bare")
        return written, time.perf_counter() - started

    rounds = []
    for number in range(rounds_asked + 1):
        if number % 2:
            written, refreshed = bare()
            taken = ours()
        else:
            taken = ours()
            written, refreshed = bare()
        rounds.append((records / taken, len(final) / written, len(final) / refreshed))
        print(f"  {written / taken * records / len(final):.2f}", end="", flush=True)
    gc.unfreeze()
    client.close()
    store.close()
    bus.close()
    mine, others = (statistics.median(each[side] for each in rounds[1:]) for side in (0, 1))
    print(
        f"\n{records:,} records, {per_document} per document: {mine:,.0f}/s, helpers.bulk {others:,.0f}/s; "
        f"{rounds_asked} rounds, load {os.getloadavg()[0]:.1f}"
    )
    goal = 0.9 if per_document == 1 else 3.0
    _ratio("of helpers.bulk, record for document", [one / other for one, other, _ in rounds[1:]], goal)
    _ratio("of helpers.bulk and the refresh that ours ends with", [one / other for one, _, other in rounds[1:]], goal)


def _actions(final: list[tuple[str, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for key, document in final:
        yield {"_index": "bare", "_id": key, "_source": document}


def embedded(url: URL, rounds_asked: int, records: int) -> None:
    """The embedded store's writing against SQLAlchemy Core with the same rows and table; and catching up."""
    bus = _emptied(url)
    fill(bus, records, 1)
    store = EmbeddedStore(bus.engine)
    rounds = []
    for _ in range(rounds_asked + 1):
        _forget(bus, store)
        started = time.perf_counter()
        Projector(bus, store).catch_up()
        caught_up = time.perf_counter() - started
        rounds.append((caught_up, *_written(bus.engine, store)))
    bus.close()
    rate = records / statistics.median(each[0] for each in rounds)
    print(f"\nembedded on {bus.engine.dialect.name}: catching up {rate:,.0f} records/s")
    _ratio("of a bare executemany", [bare / ours for _, ours, bare in rounds[1:]], 0.7)


def _written(engine: Engine, store: EmbeddedStore) -> tuple[float, float]:
    """Seconds that the store takes to write all documents to another index, and that a bare executemany takes."""
    index = str(store.aliased("counters"))
    writes = [Write(key, each.version, orjson.dumps(each.document)) for key, each in store.scan(index)]
    for name in ("ours", "bare"):
        store.create_index(IndexInfo(name, "counters", 1, ""), Counters.mappings, {}, loading=False)
    started = time.perf_counter()
    for start in range(0, len(writes), BATCH):
        store.write_many("ours", writes[start : start + BATCH])
    ours = time.perf_counter() - started
    names = ("index_name", "key", "version", "document", "words", "deleted_at")
    rows = [
        {
            "index_name": "bare",
            "key": each.key,
            "version": each.version,
            "document": (each.text or b"").decode(),
            "words": None,
            "deleted_at": None,
        }
        for each in writes
    ]
    documents = Table("projection_documents", MetaData(), *(Column(name) for name in names))
    started = time.perf_counter()
    for start in range(0, len(rows), BATCH):
        with engine.begin() as connection:
            connection.execute(insert(documents), rows[start : start + BATCH])
    bare = time.perf_counter() - started
    for name in ("ours", "bare"):
        store.delete_index(name)
    return ours, bare


def live(url: URL, elasticsearch: str) -> None:
    """How long after an action's outcome its document is there, while actions are being run."""
    bus = _emptied(url, busy)
    store = ElasticsearchStore(elasticsearch)
    stop = threading.Event()
    projector = threading.Thread(target=Projector(bus, store).run, args=(stop,))
    projector.start()
    Projections(bus, store).wait_for("totals", bus.execute("count_up", {"id": 0, "by": 1}), 30)
    ledger, lags, pending = Ledger(bus.backend), list[float](), deque[tuple[int, float]]()
    is_over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(ledger, pending, lags, is_over))
    watcher.start()
    began = time.perf_counter()
    for number in range(_LIVE_S * _PER_SECOND):
        time.sleep(max(0.0, began + number / _PER_SECOND - time.perf_counter()))
        position = bus.execute("count_up", {"id": number % 20, "by": 1}).position
        pending.append((position, time.perf_counter()))
    rate = _LIVE_S * _PER_SECOND / (time.perf_counter() - began)
    is_over.set()
    watcher.join()
    stop.set()
    projector.join()
    store.close()
    bus.close()
    p50, p99 = statistics.median(lags), sorted(lags)[int(len(lags) * 0.99)]
    print(f"\nlive lag at {rate:.0f} actions/s: p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms ({len(lags)} actions)")


def _watch(ledger: Ledger, pending: deque[tuple[int, float]], lags: list[float], is_over: threading.Event) -> None:
    """Seconds from an action's end until the checkpoint is at it, for each."""
    while pending or not is_over.is_set():
        reached = min(row.position for row in ledger.checkpoints("totals"))
        now = time.perf_counter()
        while pending and pending[0][0] <= reached:
            lags.append(max(0.0, now - pending.popleft()[1]))
        time.sleep(0.005)


def memory(url: URL, elasticsearch: str, records: int) -> None:
    """MiB of peak memory that folding on takes, once a tenth is folded."""
    bus = _emptied(url)
    fill(bus, records, 10)
    store = ElasticsearchStore(elasticsearch)
    _forget(bus, store)
    early: list[int] = []

    def watch(_what: str, done: int, total: int) -> None:
        if not early and done > total // 10:
            early.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    Projector(bus, store).catch_up(watch)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early[0]) / 1024
    store.close()
    bus.close()
    print(f"\nfolding {records:,} records: memory grew by {grown:.1f} MiB from the first tenth to the end")


def memory_of_big_ones(url: URL, elasticsearch: str) -> None:
    """The same for documents of a megabyte, each changed twice."""
    bus = _emptied(url)
    with bus.engine.begin() as connection:
        for number in range(_BIG_ONES):
            arguments = {"key": f"big {number // 2}", "name": f"{number}", "tags": ["x" * 1000] * 1000}
            append_outcomes(connection, [{"arguments": arguments}])
    store = ElasticsearchStore(elasticsearch)
    _forget(bus, store)
    projector = Projector(bus, store)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peaks: list[int] = []
    projector.catch_up(lambda *_: peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store.close()
    bus.close()
    first = peaks[0] if peaks else before
    print(
        f"\n{_BIG_ONES} records of 1 MB: at most {before / 1024:.0f} MiB before, {first / 1024:.0f} after "
        f"the first batch, {after / 1024:.0f} in the end"
    )


def _ratio(what: str, ratios: list[float], goal: float) -> None:
    found = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}; goal {goal:.2f}{'' if found >= goal else ', not reached'}"
    print(f"  {found:.2f} {what} ({spread})", flush=True)


if __name__ == "__main__":
    main()
