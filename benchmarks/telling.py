"""`python -m benchmarks.telling [IMAGES]`: what it takes to tell a state, a page of it, a row's history, and to bisect.

Half of the images put a row there, the other half change one; each belongs to an action of its own.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from actionbus import Bus, History
from actionbus.core.history.fold import Fold
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from actionbus.replay.archives.transfer import export, import_into
from benchmarks.cost import Cost, ServerCpu
from benchmarks.setting import application, databases, describe

TABLES = {
    "postgresql": """
        INSERT INTO actionbus_images (shape, operation, key, before, after, action, xid)
        SELECT 1, CASE WHEN n <= {half} THEN 'i' ELSE 'u' END, '(' || id || ')',
            CASE WHEN n > {half} THEN '(' || id || ',"item ' || id || '",' || id || ')' END,
            '(' || id || ',"item ' || id || '",' || n || ')', lpad(to_hex(n), 32, '0'), 1000 + n
        FROM (SELECT n, CASE WHEN n <= {half} THEN n ELSE n - {half} END AS id FROM generate_series(1, {images}) n) s
        ORDER BY n;
        INSERT INTO journal (action_id, kind, status, action, correlation_id, xid, seen, images_upto)
        SELECT lpad(to_hex(n), 32, '0')::uuid, 'outcome', 'succeeded', 'change', '', 1000 + n,
            (1000 + n) || ':' || (1001 + n) || ':', n FROM generate_series(1, {images}) n;""",
    "sqlite": """
        WITH RECURSIVE s(n, id) AS (SELECT 1, 1 UNION ALL
            SELECT n + 1, CASE WHEN n < {half} THEN n + 1 ELSE n + 1 - {half} END FROM s WHERE n < {images})
        INSERT INTO actionbus_images (shape, operation, key, at, o1, o2, o3, n1, n2, n3)
        SELECT 1, CASE WHEN n <= {half} THEN 'i' ELSE 'u' END, id, 2460000.5, CASE WHEN n > {half} THEN id END,
            CASE WHEN n > {half} THEN 'item ' || id END, CASE WHEN n > {half} THEN id END, id, 'item ' || id, n FROM s;
        WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {images})
        INSERT INTO journal (action_id, kind, status, action, correlation_id, images_after, images_upto)
        SELECT printf('%032x', n), 'outcome', 'succeeded', 'change', '', n - 1, n FROM s;""",
}


def main() -> None:
    """Measure on both databases."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.telling")
    parser.add_argument("images", type=int, nargs="?", default=100_000)
    parser.add_argument("--only-telling", action="store_true", help="write no file and read none")
    options = parser.parse_args()
    images = options.images
    with databases(are_empty=True) as urls, TemporaryDirectory() as folder:
        print(describe(urls))
        for name in ("postgresql", "sqlite"):
            telling(name, urls[name], images)
            if options.only_telling:
                continue
            carrying(urls[name], images, Path(folder) / f"{name}.gz")


def telling(name: str, url: URL, images: int) -> None:
    """Fill a database and ask."""
    bus = Bus(application, url)
    bus.journal.create()
    half = images // 2
    with bus.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE items (id integer PRIMARY KEY, name text, price integer)")
        install(bus.backend, connection, [TableWanted("items")])
        _run(connection, TABLES[name].format(images=images, half=half))
    with bus.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE" if name == "postgresql" else "ANALYZE")  # as autovacuum would
    history = bus.history
    bus.journal.settled()
    timed = partial(_timed, server=ServerCpu(url) if name == "postgresql" else None)
    print(f"\n{name}, {images} images, {half} rows")
    timed("state at the end", lambda: history.state("items"), images)
    timed("state at three quarters", lambda: history.state("items", at=images * 3 // 4), images * 3 // 4)
    timed("  of it, told by the sum of all", lambda: _summed(history), images)
    timed("  of it, fold and no columns", lambda: _folded(history), images)
    timed("first page of 100", lambda: history.state("items", limit=100))
    timed("a page in the middle", lambda: history.state("items", at=images * 3 // 4, after=half // 2, limit=100))
    timed("a row at a position", lambda: history.state("items", at=images // 2, after=half // 3, limit=1))
    timed("a row's history", lambda: history.rows("items", half // 2))
    timed("blame", lambda: history.blame("items", half // 2))
    timed("diff of the last 100 positions", lambda: history.diff(images - 100))
    timed("changes of an action", lambda: history.changes(images - 7))
    query = f"SELECT EXISTS (SELECT 1 FROM items WHERE price = {images - images // 3})"
    timed("bisect by SQL", lambda: history.bisect(query), rounds=1)
    timed("bisect of a row", lambda: history.bisect_row("items", half // 2, "price", half + half // 2))
    bus.close()


def carrying(url: URL, images: int, path: Path) -> None:
    """Write all of it to a file, and read it into another database."""
    with Bus(application, url) as bus:
        _timed("export", lambda: export(bus.journal, path, history=bus.history), images, rounds=1)
        with databases(are_empty=True) as empty, Bus(application, empty[url.get_backend_name()]) as other:
            other.journal.create()
            _timed("import", lambda: import_into(other, path), images, rounds=1)
    print(f"  {'bytes of the file for each':<32} {path.stat().st_size / images:10.1f}")


def _summed(history: History) -> None:
    """As every state was told once, and what a state falls back to where images do not follow from each other."""
    with history.opened(None) as opened:
        recorded = opened.one("items")
        residue = opened.images.residue(recorded.shapes, recorded.since_image, opened.cut)
        Fold(recorded.shapes, opened.images.values).settle(residue)


def _folded(history: History) -> None:
    with history.opened(None) as opened:
        recorded = opened.one("items")
        deque(opened.images.stretches(recorded.shapes, recorded.since_image, opened.cut), 0)


def _run(connection: Connection, script: str) -> None:
    for statement in script.split(";"):
        if statement.strip():
            connection.exec_driver_sql(
                statement.replace("%", "%%") if "postgres" in connection.dialect.name else statement
            )


def _timed(
    what: str, ask: Callable[[], Any], images: int = 0, *, rounds: int = 3, server: ServerCpu | None = None
) -> None:
    spent = []
    for _ in range(rounds):
        before = Cost.begin(server)
        ask()
        spent.append(Cost.so_far(server).since(before))
    middle = sorted(spent)[rounds // 2]
    rate = f", {images / middle.wall * 1e9:,.0f} images/s" if images else ""
    wall, here, there = (each / 1e6 for each in middle)
    print(f"  {what:<32} {wall:10.1f} ms, CPU here {here:8.1f} ms, in the server {there:8.1f} ms{rate}", flush=True)


if __name__ == "__main__":
    main()
