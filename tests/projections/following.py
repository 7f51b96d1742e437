"""A subscription that writes down what it is given, and processes that follow with it and are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from sqlalchemy import create_engine

from actionbus import Application, Bus, Record
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.projections import Projector, Subscription
from actionbus.projections.ledger import Ledger
from tests import processes

FOLLOWER = """
import sys
from tests.projections.following import follow
follow(*sys.argv[1:])
"""


class Notices(Subscription):
    """Writes the positions of notes to a file, a batch to a line."""

    actions = ("put_note", "drop_note")
    batch = 3
    path: ClassVar[Path]
    kill_at: ClassVar[str] = ""
    handled: ClassVar[int] = 0

    def handle(self, records: Sequence[Record]) -> None:
        """Poison is refused, and a killer comes before or after the writing."""
        type(self).handled += 1
        if any(record.arguments.get("text") == "poison" for record in records):
            raise RuntimeError("cannot be noticed")
        self._maybe_die("before")
        with self.path.open("a") as file:
            file.write(",".join(str(record.position) for record in records) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._maybe_die("after")

    def _maybe_die(self, when: str) -> None:
        if self.kill_at == f"{when} {self.handled}":
            os.kill(os.getpid(), signal.SIGKILL)


def application(path: Path) -> Application:
    """The notes without projections, followed."""
    Notices.path = path
    return Application("notes", actions=["tests.projections.notes.actions"], subscriptions=[Notices])


def follow(url: str, path: str, kill_at: str = "") -> None:
    """A projector, until it is killed; it kills itself at a step if that is asked."""
    Notices.kill_at = kill_at
    if kill_at.startswith("advance"):
        advance, when = Ledger.advance, kill_at.split()[1]

        def killed(self: Ledger, *given: object) -> bool:
            if when == "after":
                advance(self, *given)  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGKILL)
            return False

        Ledger.advance = killed  # type: ignore[method-assign]
    bus = Bus(application(Path(path)), url)
    Projector(bus, EmbeddedStore(create_engine(url))).run(threading.Event())


def start(url: str, path: Path, kill_at: str = "") -> subprocess.Popen[bytes]:
    """That in a process of its own."""
    return processes.Popen([sys.executable, "-c", FOLLOWER, url, str(path), kill_at])


def noticed(path: Path) -> list[list[int]]:
    """What was written down: batches of positions."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [[int(each) for each in line.split(",")] for line in lines]


def assert_at_least_once_and_in_order(batches: list[list[int]], expected: list[int]) -> None:
    """Each batch goes on where one before began or ended; nothing is missing, nothing else is there."""
    done = 0
    for batch in batches:
        begun = expected.index(batch[0])
        assert begun <= done, f"{expected[done]} was left out before {batch[0]}"
        assert batch == expected[begun : begun + len(batch)]
        done = max(done, begun + len(batch))
    assert done == len(expected), f"{len(expected) - done} never came"
