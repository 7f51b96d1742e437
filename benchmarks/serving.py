"""What the HTTP API costs against a bare Flask view that does the same transaction; and a long load on it.

python -m benchmarks.serving                 the ratio, on PostgreSQL
python -m benchmarks.serving --minutes 10    mixed traffic at saturation: p99, memory, errors
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import random
import statistics
import threading
import time
from collections import Counter as Counts
from multiprocessing.connection import Connection
from typing import Any

import psutil
from flask import Flask, request
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session

from actionbus.adapters.flask.server import serve
from actionbus.adapters.wiring import bus_for
from actionbus.flask import ActionBus
from benchmarks.setting import ROWS, PlainCounter, application, databases, describe, plain_engine

CLIENTS = 8


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("--rounds", type=int, default=12, help="interleaved rounds")
    parser.add_argument("--requests", type=int, default=400, help="requests per round and contestant")
    parser.add_argument("--minutes", type=float, default=0.0, help="length of the load instead of the ratio")
    options = parser.parse_args()
    with databases() as urls:
        print(describe(urls))
        server = _Server(urls["postgresql"])
        try:
            load(server, options.minutes) if options.minutes else ratio(server, options)
        finally:
            server.stop()


def ratio(server: _Server, options: Any) -> None:
    """The same clients ask both in turn."""
    rounds = []
    for number in range(options.rounds + 1):
        found = {who: _timed(server.port, path, options.requests) for who, path in PATHS.items()}
        rounds += [found] if number else []
    rates = {who: options.requests / statistics.median(each[who] for each in rounds) for who in PATHS}
    ratios = sorted(each["bare"] / each["action"] for each in rounds)
    print(", ".join(f"{who} {rate:.0f} requests/s" for who, rate in rates.items()))
    middle = statistics.median(ratios)
    print(f"of a bare Flask view: {middle:.2f} (0.60 asked; {ratios[0]:.2f} to {ratios[-1]:.2f} over the rounds)")


PATHS = {"bare": "/bare", "action": "/actions/count_up"}


def _timed(port: int, path: str, count: int) -> float:
    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for turn in range(count // CLIENTS):
            status = _post(connection, path, {"id": (number * 100 + turn) % ROWS, "by": 1})
            assert status == 200, status
        connection.close()

    threads = [threading.Thread(target=ask, args=[number]) for number in range(CLIENTS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def _post(connection: http.client.HTTPConnection, path: str, body: Any) -> int:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    return response.status


MIXED = (
    (70, "POST", "/actions/count_up", lambda: {"id": random.randrange(ROWS), "by": 1}, 200),
    (10, "POST", "/actions/count_up", lambda: {"id": "x"}, 422),
    (5, "POST", "/actions/nothing", dict, 404),
    (10, "GET", "/actions", None, 200),
    (3, "GET", "/openapi.json", None, 200),
    (2, "GET", "/metrics", None, 200),
)


def load(server: _Server, minutes: float) -> None:
    """Mixed traffic from all clients at once, as fast as it is answered."""
    deadline = time.monotonic() + 60 * minutes
    seconds: list[float] = []
    statuses: Counts[int] = Counts()
    wrong: Counts[str] = Counts()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        while time.monotonic() < deadline:
            _, method, path, body, expected = random.choices(MIXED, [each[0] for each in MIXED])[0]
            started = time.perf_counter()
            connection.request(method, path, json.dumps(body()) if body else None, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            seconds.append(time.perf_counter() - started)
            statuses[response.status] += 1
            if response.status != expected:
                wrong[f"{path} {response.status}"] += 1
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(10, 6 * minutes))
        memory.append(server.memory())
        print(f"  {len(seconds):,} requests, {memory[-1]:.1f} MiB", flush=True)
    seconds.sort()
    early = max(memory[: max(1, len(memory) // 5)])
    print(
        f"{len(seconds):,} requests, {len(seconds) / (60 * minutes):.0f}/s, statuses {dict(sorted(statuses.items()))}"
    )
    print(f"p50 {seconds[len(seconds) // 2] * 1e3:.1f} ms, p99 {seconds[int(len(seconds) * 0.99)] * 1e3:.1f} ms")
    print(f"server memory {memory[-1]:.1f} MiB at the end, {early:.1f} MiB at most in the first fifth")
    print(f"not as expected: {dict(wrong) or 'none'}; 5xx: {sum(n for s, n in statuses.items() if s >= 500)}")


class _Server:
    """Both contestants in one process of their own, behind the same waitress."""

    def __init__(self, url: URL) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(url.render_as_string(hide_password=False), theirs))
        self._process.start()
        self.port = int(ours.recv())

    def memory(self) -> float:
        """Resident MiB."""
        return float(psutil.Process(self._process.pid).memory_info().rss / 1_048_576)

    def stop(self) -> None:
        """SIGTERM."""
        self._process.terminate()
        self._process.join()


def _serve(url: str, told: Connection) -> None:
    app = Flask("bench")
    engine = plain_engine(make_url(url))

    @app.post("/bare")
    def bare() -> Any:
        given = request.get_json()
        with Session(engine) as session:
            counter = session.get_one(PlainCounter, given["id"])
            counter.n += given["by"]
            session.commit()
            return {"n": counter.n}

    ActionBus(app, bus=bus_for(application, url))
    serve(app, "127.0.0.1", 0, ready=lambda address: told.send(address.rsplit(":", 1)[1]))


if __name__ == "__main__":
    main()
