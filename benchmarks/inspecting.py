"""`python -m benchmarks.inspecting [ACTIONS]`: how long pages of the inspector and answers of the read API take.

Over a year's history on PostgreSQL (`many_stays`), by default of a million actions. Each is asked for so many times,
every time for another place; the median and the 95th percentile are told: by the clock, and of the processor's time,
here and in the database, which is what it takes on a machine that has nothing else to do. `--database URL` takes one
that is filled.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import psutil
from flask import Flask
from sqlalchemy import text
from sqlalchemy.engine import make_url

from actionbus import Application, Bus
from actionbus.adapters.inspector.door import Door
from actionbus.adapters.inspector.mounting import app_behind
from actionbus.flask import ActionBus
from benchmarks.many_stays import TABLE, fill
from tests.servers import Server

GOAL_MS = 300


class Granting:
    """A checkpoint that grants everything."""

    def require(self, permission: str, arguments: Any) -> None:
        """It does."""


measured = Application(
    "measured", actions=["benchmarks.actions"], dependencies={"checkpoint": lambda actor: Granting()}
)
Path = Callable[[], str]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inspecting")
    parser.add_argument("actions", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--database", metavar="URL")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", default="", metavar="WORD", help="Only those whose name has it.")
    given = parser.parse_args()
    server = None if given.database else Server("fsync = on\n")
    url = make_url(given.database) if given.database else server.database()  # type: ignore[union-attr]
    if server is not None:
        fill(url, given.actions)
    with Bus(measured, url) as bus:
        print(f"{given.actions:,} actions, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        print(f"{'ms':<48}median     p95   of the processor: median     p95")
        where = Places(bus, given.actions)
        for title, client, paths in (
            ("pages of the inspector", _inspector(bus), where.pages()),
            ("answers of the read API", api_of(bus), where.answers()),
        ):
            print(title)
            for name, path in paths.items():
                if given.only in name:
                    _tell(name, client, path, given.rounds, str(url.database))
        print(f"load {os.getloadavg()[0]:.1f}")
    if server is not None:
        server.close()


def _tell(name: str, client: Any, path: Path, rounds: int, database: str) -> None:
    """Ask so many times, after once that does not count."""
    clock, cpu = list[float](), list[float]()
    for _ in range(rounds + 1):
        asked = path()
        servers = servers_of(database)
        begun, used = time.perf_counter(), processor_s(servers)
        answer = client.get(asked)
        clock.append(time.perf_counter() - begun)
        cpu.append(processor_s(servers) - used)
        assert answer.status_code == 200, (asked, answer.text[:500])
    told = " ".join(f"{each:8.0f}" for each in (*middle_and_p95(clock[1:]), *middle_and_p95(cpu[1:])))
    print(f"  {name:<44} {told}{'' if middle_and_p95(clock[1:])[1] < GOAL_MS else '  !'}", flush=True)


def middle_and_p95(spent: list[float]) -> tuple[float, float]:
    """Median and 95th percentile, in ms."""
    ordered = sorted(spent)
    return ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.95)] * 1000


def servers_of(database: str) -> list[psutil.Process]:
    """The processes that serve a database on this machine."""
    titled = f"postgres: postgres {database} "
    return [each for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [""])[0].startswith(titled)]


def processor_s(servers: list[psutil.Process]) -> float:
    """Seconds that this process and those have had, to a hundredth."""
    spent = time.process_time()
    for process in servers:
        with suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:2])
    return spent


def _inspector(bus: Bus) -> Any:
    door = Door(bus)
    client = app_behind(door, bus, "embedded").test_client()
    client.get(f"/enter?token={door.token}")
    return client


def api_of(bus: Bus) -> Any:
    app = Flask("asked")
    app.config["ACTIONBUS_ELASTICSEARCH_URL"] = "embedded"
    ActionBus(app, bus=bus)
    return app.test_client()


class Places:
    """Random places in the history, the same ones in each run."""

    def __init__(self, bus: Bus, actions: int) -> None:
        self._bus, self._actions, self._random = bus, actions, random.Random(7)
        with bus.engine.connect() as connection:
            self._last = bus.backend.utc(connection.execute(text("SELECT max(recorded_at) FROM journal")).scalar_one())

    def position(self) -> int:
        """Of any record."""
        return self._random.randrange(1, 2 * self._actions)

    def key(self) -> int:
        """Of any row."""
        return self._random.randrange(2, self._actions // 10)

    def moment(self) -> str:
        """Of any time in the year."""
        then: datetime = self._last - timedelta(days=365) * self._random.random()
        return quote(then.isoformat())

    def person(self) -> str:
        """Of any actor."""
        return f"person%20{self._random.randrange(500)}"

    def _filters(self) -> dict[str, Callable[[], str]]:
        choose = self._random
        return {
            "of an action": lambda: f"action=action_{choose.randrange(20)}",
            "of an actor": lambda: f"actor={self.person()}",
            "of a status": lambda: f"status={choose.choice(['failed', 'denied', 'rejected'])}",
            "of nobody's that ever was": lambda: f"actor=nobody-{choose.random()}",
            "of two actors and an action": lambda: f"actor={self.person()}&actor={self.person()}&action=action_3",
            "but for an actor": lambda: f"exclude_actor={self.person()}",
            "of a release": lambda: f"release=r{choose.randrange(50)}",
            "of a request": lambda: f"correlation=request-{choose.randrange(self._actions // 3)}",
            "that touched a row": lambda: f"touching={TABLE}:{self.key()}",
            "that touched a table": lambda: f"touching={TABLE}",
            "of an actor, that touched a table": lambda: f"touching={TABLE}&actor={self.person()}",
            "that touched a busy row": lambda: f"touching={TABLE}:1",
            "with words": lambda: f"q=guest%20{self.key()}",
            "until a date": lambda: f"until={self.moment()}",
            "of an actor, until a date": lambda: f"actor={self.person()}&until={self.moment()}",
        }

    def pages(self) -> dict[str, Path]:
        """By name, where to find one."""
        return {
            "the first page": lambda: "/",
            **{f"records {name}": lambda part=part: f"/?{part()}" for name, part in self._filters().items()},  # type: ignore[misc]
            "an older page": lambda: f"/?cursor=o{self.position()}",
            "an action": lambda: f"/actions/{self.position()}",
            "its causes": lambda: f"/causes/{self.position()}",
            "a row": lambda: f"/row?table={TABLE}&key={self.key()}",
            "a busy row": lambda: f"/row?table={TABLE}&key=1",
            "a row at a position": lambda: f"/row?table={TABLE}&key=1&at={self.position()}",
            "where a value came from": lambda: f"/origin?table={TABLE}&key={self.key()}&column=price",
            "a table now": lambda: f"/table?table={TABLE}",
            "a table at a position": lambda: f"/table?table={TABLE}&at={self.position()}",
            "a diff of 1000 positions": self._diff,
            "tables": lambda: "/tables",
            "about": lambda: "/about",
            "the queue": lambda: "/queue",
        }

    def _diff(self) -> str:
        low = self.position()
        return f"/diff?a={low}&b={min(low + 1000, 2 * self._actions)}"

    def answers(self) -> dict[str, Path]:
        """By name, what the API is asked."""
        year = quote((self._last - timedelta(days=365)).isoformat())
        return {
            "the first page": lambda: "/journal",
            **{f"records {name}": lambda part=part: f"/journal?{part()}" for name, part in self._filters().items()},  # type: ignore[misc]
            "density of a year": lambda: f"/journal/density?since={year}&buckets=100",
            "density of a year, of an actor": lambda: (
                f"/journal/density?since={year}&buckets=100&actor={self.person()}"
            ),
            "density of a year, with words": lambda: (
                f"/journal/density?since={year}&buckets=100&q=guest%20{self.key()}"
            ),
            "density of a year, of what touched a table": lambda: (
                f"/journal/density?since={year}&buckets=100&touching={TABLE}"
            ),
            "density of a year, of a release": lambda: f"/journal/density?since={year}&buckets=100&release=r7",
            "facets": lambda: "/journal/facets",
            "an action": lambda: f"/journal/{self.position()}",
            "its causes": lambda: f"/journal/causes/{self.position()}",
            "records of a range of time": lambda: f"/journal?since={(since := self.moment())}&until={since}",
            "a row": lambda: f"/history/rows/{TABLE}/{self.key()}",
            "a busy row": lambda: f"/history/rows/{TABLE}/1",
            "a table at a position": lambda: f"/history/state/{TABLE}?at={self.position()}",
            "a diff of 1000 positions": lambda: (
                "/history/" + self._diff()[1:].replace("a=", "from=").replace("b=", "to=")
            ),
        }


if __name__ == "__main__":
    main()
