"""`python -m benchmarks.queueing`: actions that wait for two workers: our own queue, Celery's, and procrastinate's.

Each contestant does the same transaction, the count of one row, and is asked in turn, round after round, for as many as
`--actions`. Two figures: what it takes to queue them one by one, and what it takes two worker processes
to do all of it, from the first that is done on. Bare Celery and procrastinate keep no record of what was asked, nor of
what came of it.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters.celery import CeleryBroker
from benchmarks.queueing_tasks import celery_app, procrastinate_app
from benchmarks.setting import ROWS, application, databases, describe
from tests.servers import Redis

WORKERS = 2
PATIENCE_S = 600.0


class Contestant:
    """Queues `count` transactions, and knows what starts the workers that do them."""

    def __init__(self, url: URL, redis: Redis) -> None:
        self.url, self.redis = url, redis
        self.environment = os.environ | {
            "BENCHMARK_URL": url.render_as_string(hide_password=False),
            "BENCHMARK_REDIS": redis.url,
            "ACTIONBUS_APP": "benchmarks.setting:application",
            "ACTIONBUS_DATABASE_URL": url.render_as_string(hide_password=False),
            "ACTIONBUS_BROKER_URL": "",
        }

    def command(self) -> list[str]:
        """What starts the workers."""
        raise NotImplementedError

    def queue(self, count: int) -> None:
        """Queue so many."""
        raise NotImplementedError


class Own(Contestant):
    """Ours, without a broker."""

    broker: Any = None

    def command(self) -> list[str]:
        return [sys.executable, "-m", "actionbus", "worker", "-c", str(WORKERS)]

    def queue(self, count: int) -> None:
        with Bus(application, self.url, broker=self.broker) as bus:
            runner = bus.runner("bench")
            for number in range(count):
                runner.execute_async("count_up", {"id": number % ROWS})


class OurCelery(Own):
    """Ours, woken by Celery."""

    def __init__(self, url: URL, redis: Redis) -> None:
        super().__init__(url, redis)
        self.broker = CeleryBroker(redis.url)
        self.environment["ACTIONBUS_BROKER_URL"] = redis.url


class BareCelery(Contestant):
    """Celery's own tasks, acknowledged late; its workers take one message at a time."""

    def command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "benchmarks.queueing_tasks:celery_worker",
            "worker",
            "-c",
            str(WORKERS),
            "-l",
            "ERROR",
            "--without-gossip",
            "--without-mingle",
            "-Q",
            "bare",
        ]

    def queue(self, count: int) -> None:
        app = celery_app(self.redis.url)
        for number in range(count):
            app.send_task("count", args=[number % ROWS], queue="bare", ignore_result=True)


class Procrastinate(Contestant):
    """procrastinate, on PostgreSQL alone; each of its workers is a process."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.queueing_tasks", str(WORKERS)]

    def queue(self, count: int) -> None:
        with procrastinate_app(self.url, sync=True).open() as app:
            for number in range(count):
                app.configure_task("count").defer(id=number % ROWS)


def main() -> None:
    """Measure on both databases."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queueing")
    parser.add_argument("--actions", type=int, default=500, help="how many are queued in each round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, in each of which all take their turn")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with databases() as urls, _redis() as redis:
        print(describe(urls))
        print(f"the machine's load is {load:.1f} on {os.cpu_count()} cores: read the ratios, not the figures")
        for name, url in urls.items():
            contestants: dict[str, Contestant] = {
                "own queue": Own(url, redis),
                "woken by Celery": OurCelery(url, redis),
            }
            if name == "postgresql":
                contestants |= {"bare Celery": BareCelery(url, redis), "procrastinate": Procrastinate(url, redis)}
                with procrastinate_app(url, sync=True).open() as app:
                    app.schema_manager.apply_schema()
            rounds = [
                {who: _measured(each, options.actions) for who, each in contestants.items()}
                for _ in range(options.rounds)
            ]
            _tell(name, rounds, options.actions)


def _measured(contestant: Contestant, count: int) -> tuple[float, float]:
    """Seconds to queue, and to do, so many."""
    goal = _done(contestant.url) + count
    began = time.perf_counter()
    contestant.queue(count)
    queued = time.perf_counter() - began
    workers = subprocess.Popen(
        contestant.command(), env=contestant.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        first = _until(lambda: _done(contestant.url) > goal - count)
        last = _until(lambda: _done(contestant.url) >= goal)
        return queued, last - first
    finally:
        workers.send_signal(signal.SIGTERM)
        workers.wait()


def _done(url: URL) -> int:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return int(connection.execute(text("SELECT sum(n) FROM counters")).scalar_one() or 0)
    finally:
        engine.dispose()


def _until(condition: Callable[[], bool]) -> float:
    give_up = time.perf_counter() + PATIENCE_S
    while not condition():
        assert time.perf_counter() < give_up, "the workers do nothing"
        time.sleep(0.01)
    return time.perf_counter()


def _tell(name: str, rounds: list[dict[str, tuple[float, float]]], count: int) -> None:
    print(f"\n{name}: {count} actions, {WORKERS} worker processes")
    for who in rounds[0]:
        queued, done = (statistics.median(each[who][part] for each in rounds) for part in (0, 1))
        print(f"  {who:<16} queued {count / queued:6.0f}/s, done {count / done:6.0f}/s")
    for who in rounds[0]:
        if who != "own queue":
            ratio = statistics.median(each[who][1] / each["own queue"][1] for each in rounds)
            print(f"  our own queue does {ratio:.2f} of what {who} does in the same time")


@contextmanager
def _redis() -> Iterator[Redis]:
    server = Redis()
    server.start()
    try:
        yield server
    finally:
        server.kill()


if __name__ == "__main__":
    main()
