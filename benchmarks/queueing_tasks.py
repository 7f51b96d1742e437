"""What bare Celery and procrastinate run in `benchmarks.queueing`: the business transaction, and no record of it.

`python -m benchmarks.queueing_tasks N` runs N workers of procrastinate, until SIGTERM.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from typing import Any

import procrastinate
from celery import Celery
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url

_engines: dict[int, Engine] = {}


def count(row: int) -> None:
    """Read a row and write it, one higher."""
    if os.getpid() not in _engines:
        _engines[os.getpid()] = create_engine(os.environ["BENCHMARK_URL"])
    with _engines[os.getpid()].begin() as connection:
        connection.execute(text("UPDATE counters SET n = n + 1 WHERE id = :id"), {"id": row})


def celery_app(broker: str) -> Celery:
    """Celery as its documentation has it where nothing may be lost."""
    app = Celery("bare", broker=broker)
    app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True)
    app.task(name="count")(count)
    return app


def procrastinate_app(url: URL, *, sync: bool) -> Any:
    """procrastinate on a PostgreSQL."""
    where = url.set(drivername="postgresql").render_as_string(hide_password=False)
    kind = procrastinate.SyncPsycopgConnector if sync else procrastinate.PsycopgConnector
    app = procrastinate.App(connector=kind(conninfo=where))
    app.task(name="count")(_count_for_procrastinate)
    return app


def _count_for_procrastinate(id: int) -> None:
    count(id)


celery_worker = celery_app(os.environ.get("BENCHMARK_REDIS", "memory://"))


def _work() -> None:
    app = procrastinate_app(make_url(os.environ["BENCHMARK_URL"]), sync=False)
    app.run_worker(delete_jobs="successful")


if __name__ == "__main__":
    workers = [multiprocessing.Process(target=_work) for _ in range(int(sys.argv[1]))]
    for worker in workers:
        worker.start()
    signal.signal(signal.SIGTERM, lambda *_: [worker.terminate() for worker in workers] and None)
    for worker in workers:
        worker.join()
