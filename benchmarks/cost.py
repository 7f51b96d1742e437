"""What a step costs besides time: CPU of the client and of the database server, and what a commit waits for."""

from __future__ import annotations

import contextlib
import statistics
import time
from pathlib import Path
from typing import NamedTuple, Self

import psutil
from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from benchmarks.setting import plain_engine

COMMITS = 200


class Cost(NamedTuple):
    """Nanoseconds: on the clock, of CPU in this process, of CPU in all processes of the server."""

    wall: int
    client: int
    server: int

    @classmethod
    def so_far(cls, server: ServerCpu | None) -> Self:
        """As it stands; the difference of two is what lay between them."""
        return cls(time.perf_counter_ns(), time.process_time_ns(), server.nanoseconds() if server else 0)

    @classmethod
    def begin(cls, server: ServerCpu | None) -> Self:
        """As it stands just before what is measured; to look at the server takes milliseconds."""
        served = server.nanoseconds() if server else 0
        return cls(time.perf_counter_ns(), time.process_time_ns(), served)

    def since(self, before: Cost) -> Cost:
        """What was spent."""
        return Cost(*(now - then for now, then in zip(self, before, strict=True)))


class ServerCpu:
    """CPU of a PostgreSQL server on this machine, its background processes included."""

    def __init__(self, url: URL) -> None:
        engine = create_engine(url)
        with engine.connect() as connection:
            folder = connection.exec_driver_sql("SHOW data_directory").scalar_one()
        engine.dispose()
        self._process = psutil.Process(int((Path(folder) / "postmaster.pid").read_text().split()[0]))

    def nanoseconds(self) -> int:
        """Used so far by the processes that there are."""
        return sum(map(_cpu, [self._process, *self._process.children()]))


def _cpu(process: psutil.Process) -> int:
    with contextlib.suppress(OSError):  # Linux tells nanoseconds, others hundredths of a second
        return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0])
    with contextlib.suppress(psutil.NoSuchProcess):
        spent = process.cpu_times()
        return int((spent.user + spent.system) * 1e9)
    return 0


def commit_latency(url: URL) -> float:
    """Microseconds that COMMIT of one small row takes, in the median: most of it is the disk's fsync."""
    engine = plain_engine(url)
    taken = []
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS committing (n integer)")
        connection.commit()
        for number in range(COMMITS):
            connection.exec_driver_sql(f"INSERT INTO committing VALUES ({number})")
            started = time.perf_counter()
            connection.commit()
            taken.append(time.perf_counter() - started)
    engine.dispose()
    return statistics.median(taken) * 1e6
