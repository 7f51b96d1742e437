"""What a replay costs against a plain loop that does the same ORM work in one in-memory SQLite transaction.

python -m benchmarks.replaying [--actions 20000] [--long 100000]

The ratios are taken in interleaved rounds; then a long history is verified, for memory and by two processes side by
side, and forked near its beginning.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import psutil
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from actionbus import Application, Bus
from actionbus.adapters.library.app import library
from actionbus.adapters.library.models import Base as LibraryBase
from actionbus.adapters.library.repo import Repo
from actionbus.replay import Replayer, Step
from actionbus.replay.fork import Forking
from actionbus.replay.narrow_fork import NarrowForking
from benchmarks.setting import ROWS, Base, Counter, application, prepare


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replaying")
    parser.add_argument("--actions", type=int, default=5_000, help="actions per round")
    parser.add_argument("--rounds", type=int, default=6, help="interleaved rounds")
    parser.add_argument("--long", type=int, default=100_000, help="actions of the long history")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for work in (adding(Path(folder), options.actions), counting(Path(folder), options.actions)):
            ratios(work, options)
        long = made(Path(folder), "long", options.long)
        verifying(long, options.long)
        forking(long)
        side_by_side(long)


class Work(NamedTuple):
    """Something to replay, and the loop that does the same ORM work."""

    name: str
    application: Application
    url: URL
    loop: Callable[[], float]


def adding(folder: Path, actions: int) -> Work:
    """The reference application's commonest action: it reads a kit, a role and two names, writes an asset and tags."""
    url = make_url(f"sqlite:///{folder / 'library.db'}")
    kits = []
    with Bus(library, url) as bus:
        bus.create()
        runner = bus.runner("ana")
        kits = [runner.execute("create_kit", {"name": f"kit {number}"}).result["kit_id"] for number in range(20)]
        for number in range(actions - len(kits)):
            told = {"kit_id": kits[number % len(kits)], "name": f"asset {number}", "tags": ["a", "b"]}
            runner.execute("add_asset", told)
    return Work("add_asset", library, url, partial(_add_plainly, [UUID(each) for each in kits], actions))


def _add_plainly(kits: list[UUID], actions: int) -> float:
    moment = datetime.now(UTC)
    engine = create_engine("sqlite://", poolclass=StaticPool)
    LibraryBase.metadata.create_all(engine)
    with engine.begin() as connection:
        began = time.perf_counter()
        for number, kit in enumerate(kits):
            with Session(connection, join_transaction_mode="rollback_only") as session:
                repo = Repo(session)
                repo.kit_named("ana", f"kit {number}")
                repo.add_kit(id=kit, name=f"kit {number}", owner="ana", description="", created_at=moment)
                session.flush()
        for number in range(actions - len(kits)):
            kit = kits[number % len(kits)]
            with Session(connection, join_transaction_mode="rollback_only") as session:
                repo = Repo(session)
                repo.role(kit, "ana")
                repo.kit(kit)
                repo.asset_named(kit, f"asset {number}")
                repo.add_asset(
                    id=uuid4(),
                    kit_id=kit,
                    name=f"asset {number}",
                    kind="icon",
                    content="",
                    names={},
                    tags=["a", "b"],
                    created_at=moment,
                )
                session.flush()
        taken = time.perf_counter() - began
    engine.dispose()
    return taken


def counting(folder: Path, actions: int) -> Work:
    """The smallest action: it reads a row and updates it."""
    return Work("count_up", application, made(folder, "short", actions), partial(plain, actions))


def made(folder: Path, name: str, actions: int) -> URL:
    """A journal of so many smallest actions, on rows that a baseline begins with."""
    url = make_url(f"sqlite:///{folder / f'{name}.db'}")
    prepare(url)
    with Bus(application, url) as bus:
        bus.create()
        runner = bus.runner("bench")
        for number in range(actions):
            runner.execute("count_up", {"id": number % ROWS, "by": 1})
    return url


def ratios(work: Work, options: argparse.Namespace) -> None:
    """Replay and loop in turn."""
    found: dict[str, list[float]] = {"plain": [], "verify": [], "run": []}
    for number in range(options.rounds + 1):
        times = {"plain": work.loop(), "verify": replayed(work, "verify"), "run": replayed(work, "run")}
        for who, seconds in times.items():
            found[who] += [seconds] if number else []
    for who in ("verify", "run"):
        each = sorted(one / other for one, other in zip(found["plain"], found[who], strict=True))
        rate = options.actions / statistics.median(found[who])
        told = f"{each[0]:.2f} to {each[-1]:.2f} over the rounds; {rate:,.0f} actions/s"
        print(f"{work.name}: replay {who}: {statistics.median(each):.2f} of the plain loop ({told})")


def plain(actions: int) -> float:
    """Seconds that the loop takes: for each action a session, a row read, changed and written."""
    engine: Engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            Counter.__table__.insert(),
            [  # type: ignore[attr-defined]
                {"id": number, "n": 0, "name": f"counter {number}"} for number in range(ROWS)
            ],
        )
        began = time.perf_counter()
        for number in range(actions):
            with Session(connection, join_transaction_mode="rollback_only") as session:
                counter = session.get_one(Counter, number % ROWS)
                counter.n += 1
                session.flush()
        taken = time.perf_counter() - began
    engine.dispose()
    return taken


def replayed(work: Work, way: str) -> float:
    """Seconds that the replay takes."""
    with Bus(work.application, work.url) as bus, Replayer(bus.journal, work.application) as replayer:
        began = time.perf_counter()
        steps = replayer.verify() if way == "verify" else replayer.run()
        for step in steps:
            assert step.verdict == "same", (step, step.why, step.differences)
        return time.perf_counter() - began


def verifying(url: URL, actions: int) -> None:
    """Memory over a long history; and what a fork at its tenth action costs, which has met history soon."""
    process, seen = psutil.Process(), list[int]()
    with Bus(application, url) as bus:
        with Replayer(bus.journal, application) as replayer:
            began = time.perf_counter()
            for step in replayer.verify():
                _note(process, seen, actions, step)
            taken = time.perf_counter() - began
        memory = f"{_memory[0]:.1f} MiB after a tenth, {_memory[-1]:.1f} MiB in the end"
        print(f"verify of {actions:,} actions: {taken:.0f} s, {actions / taken:,.0f} actions/s; memory {memory}")


def forking(url: URL) -> None:
    """From the tenth action on: where that changes nothing, and, narrowly, where its row differs to the end."""
    with Bus(application, url) as bus:
        tenth = list(bus.journal.read(limit=20, kind="outcome", action="count_up"))[9]
        ways: tuple[tuple[str, type[Forking], int], ...] = (
            ("that changes nothing", Forking, 1),
            ("that adds another number, narrow", NarrowForking, 2),
        )
        for what, way, by in ways:
            with Replayer(bus.journal, application) as replayer:
                began = time.perf_counter()
                fork = way(replayer, edit={tenth.action_id: {**tenth.arguments, "by": by}}).run()
                taken = time.perf_counter() - began
            print(f"fork at the tenth {what}: {fork.run} run again, {taken:.1f} s")


def side_by_side(url: URL, rounds: int = 3) -> None:
    """The command, alone and with two jobs, in turn; of the clock, so that both need a core of their own."""
    named = {"ACTIONBUS_APP": "benchmarks.setting:application", "ACTIONBUS_DATABASE_URL": str(url)}
    taken: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for jobs, found in taken.items():
            began = time.perf_counter()
            command = [sys.executable, "-m", "actionbus", "replay", "verify", "--jobs", str(jobs)]
            subprocess.run(command, env=os.environ | named, check=True, capture_output=True)
            found.append(time.perf_counter() - began)
    ratio = statistics.median(one / two for one, two in zip(taken[1], taken[2], strict=True))
    print(f"verify with two jobs: {ratio:.2f} times as fast as with one, load {os.getloadavg()[0]:.1f}")


_memory: list[float] = []


def _note(process: psutil.Process, seen: list[int], actions: int, step: Step) -> None:
    seen.append(step.position)
    if len(seen) % (actions // 10) == 0:
        _memory.append(process.memory_info().rss / 2**20)


if __name__ == "__main__":
    main()
