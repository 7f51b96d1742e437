"""Worker processes for tests of queued actions; used by whatever needs real ones."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.engine import URL

from tests import processes
from tests.servers import Redis
from tests.waiting import eventually


class Workers:
    """`actionbus worker` processes on one database, with a broker or without."""

    def __init__(self, url: URL, redis: Redis | None, log: Path, app: str = "tests.adapters.shop_app:app") -> None:
        self._command = [sys.executable, "-m", "actionbus", "worker", "-c", "2"]
        self.environment = os.environ | {
            "ACTIONBUS_APP": app,
            "ACTIONBUS_DATABASE_URL": url.render_as_string(hide_password=False),
            "ACTIONBUS_BROKER_URL": redis.url if redis else "",
            "ACTIONBUS_REDELIVER_AFTER": "2",
            "ACTIONBUS_ATTEMPTS": "1000",
        }
        self._log = log
        self.popen: Callable[..., subprocess.Popen[bytes]] = processes.Popen
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            started = self.popen(
                [*self._command, *options], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.running.append(started)
        return started

    def told(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def kill_one(self) -> None:
        """A child of the pool, or a whole worker, which is started again."""
        victim = random.choice(self.running)
        children: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(victim.pid).children(recursive=True)
        if children and random.random() < 0.6:
            with suppress(psutil.NoSuchProcess):  # it has ended since
                random.choice(children).kill()
            return
        self._kill(victim)
        self.running.remove(victim)
        self.start()

    def _kill(self, worker: subprocess.Popen[bytes]) -> None:
        try:
            family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        worker.wait()

    def close(self) -> None:
        for worker in self.running:
            self._kill(worker)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition; what the workers told says in the failure why it never came to hold."""
        eventually(condition, lambda: self.told()[-3000:])
