"""Projections against what they stand on: `helpers.bulk` for Elasticsearch, a bare executemany for the database."""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from elasticsearch import Elasticsearch, helpers
from sqlalchemy import Column, Engine, MetaData, Table, insert
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.adapters import database
from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.local_elasticsearch.server import LocalServer
from actionbus.core.storage.table import journal_table
from actionbus.projections import Projection, Projections, Projector, on
from actionbus.projections.feeder import BATCH
from actionbus.projections.store import IndexInfo, Store, Write
from benchmarks.setting import databases

_PAGE = 10_000


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
    parser.add_argument("--records", type=int, default=30_000, help="records to catch up with")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds per comparison")
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="also fold N records, and watch the memory")
    options = parser.parse_args()
    with databases() as urls, tempfile.TemporaryDirectory() as folder:
        server = LocalServer(Path(folder))
        url = server.start()
        try:
            for per_document, goal in ((1, 0.8), (10, 3.0)):
                catching_up(urls["postgresql"], url, options, per_document, goal)
            for name in ("postgresql", "sqlite"):
                embedded(urls[name], options)
            live(urls["postgresql"], url)
            if options.memory:
                memory(urls["postgresql"], url, options.memory)
        finally:
            server.stop()


def fill(bus: Bus, records: int, per_document: int) -> None:
    """Outcomes of an action, those of a document one after the other."""
    row = {"kind": "outcome", "status": "succeeded", "action": "count_up", "correlation_id": "c", "actor": "bench",
           "format": 1}  # fmt: skip
    with bus.engine.begin() as connection:
        for start in range(0, records, _PAGE):
            batch = [
                row | {"action_id": uuid4(), "arguments": _arguments(number // per_document)}
                for number in range(start, min(start + _PAGE, records))
            ]
            columns = [column for column in journal_table().c if column.name in batch[0]]
            connection.execute(insert(journal_table()).inline().values(dict.fromkeys(columns)), batch)


def _arguments(number: int) -> dict[str, Any]:
    return {"key": f"document-{number:09}", "name": f"number {number}", "tags": ["a", f"t{number % 7}"]}


def _emptied(url: URL, app: Application = application) -> Bus:
    bus = Bus(app, url)
    with bus.engine.begin() as connection:
        names = ("journal", "actionbus_version", "actionbus_identity", "actionbus_checkpoints", "projection_documents",
                 "projection_indices", "projection_aliases", "projection_words")  # fmt: skip
        connection.exec_driver_sql("DROP VIEW IF EXISTS actionbus_keeps_its_tables")
        for name in names:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("DROP FUNCTION IF EXISTS journal_refuse")
    database.upgrade(bus.engine)
    return bus


def _forget(bus: Bus, store: Store) -> None:
    for index in store.indices("counters"):
        store.delete_index(index)
    with bus.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM actionbus_checkpoints")
        if isinstance(store, EmbeddedStore):
            connection.exec_driver_sql("DELETE FROM projection_aliases")


def catching_up(url: URL, elasticsearch: str, options: Any, per_document: int, goal: float) -> None:
    """From the journal into Elasticsearch, against helpers.bulk with the same final documents."""
    bus = _emptied(url)
    fill(bus, options.records, per_document)
    store = ElasticsearchStore(elasticsearch)
    client = Elasticsearch(elasticsearch, request_timeout=60)
    rounds = []
    for _ in range(options.rounds + 1):
        _forget(bus, store)
        started = time.perf_counter()
        Projector(bus, store).catch_up()
        ours = time.perf_counter() - started
        index = store.aliased("counters")
        final = [(key, stored.document or {}) for key, stored in store.scan(str(index))]
        client.indices.delete(index="bare", ignore_unavailable=True)
        client.indices.create(index="bare", mappings=Counters.mappings)
        started = time.perf_counter()
        helpers.bulk(client, _actions(final))
        rounds.append((options.records / ours, len(final) / (time.perf_counter() - started)))
    client.close()
    store.close()
    bus.close()
    mine, bare = (statistics.median(each[side] for each in rounds[1:]) for side in (0, 1))
    print(f"\n{per_document} records per document: {mine:,.0f} records/s, helpers.bulk {bare:,.0f} documents/s")
    _ratio("of helpers.bulk, record for document", [one / other for one, other in rounds[1:]], goal)


def _actions(final: list[tuple[str, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for key, document in final:
        yield {"_index": "bare", "_id": key, "_source": document}


def embedded(url: URL, options: Any) -> None:
    """The embedded store's writing against SQLAlchemy Core with the same rows and table; and catching up."""
    bus = _emptied(url)
    fill(bus, options.records, 1)
    store = EmbeddedStore(bus.engine)
    store.indices("counters")
    rounds = []
    for _ in range(options.rounds + 1):
        _forget(bus, store)
        started = time.perf_counter()
        Projector(bus, store).catch_up()
        caught_up = time.perf_counter() - started
        rounds.append((caught_up, *_written(bus.engine, store)))
    bus.close()
    rate = options.records / statistics.median(each[0] for each in rounds)
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
        {"index_name": "bare", "key": each.key, "version": each.version, "document": (each.text or b"").decode(),
         "words": None, "deleted_at": None} for each in writes
    ]  # fmt: skip
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
    operations = Projections(bus, store)
    lags = []
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for number in range(20):
                outcome = bus.execute("count_up", {"id": number, "by": 1})
            started = time.perf_counter()
            operations.wait_for("totals", outcome, 30)
            lags.append(time.perf_counter() - started)
    finally:
        stop.set()
        projector.join()
    store.close()
    bus.close()
    p50, p99 = statistics.median(lags), sorted(lags)[int(len(lags) * 0.99)]
    print(f"\nlive lag under load: p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms ({len(lags)} samples)")


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


def _ratio(what: str, ratios: list[float], goal: float) -> None:
    found = statistics.median(ratios)
    print(f"  {found:.2f} {what} (goal {goal:.2f}{'' if found >= goal else ', not reached'})")


if __name__ == "__main__":
    main()
