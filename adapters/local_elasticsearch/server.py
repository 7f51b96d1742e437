"""Runs the local Elasticsearch: one node on the loopback interface, in the background, until it is stopped.

Used by `actionbus elasticsearch`, `make run` and the tests.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Final

from actionbus.adapters.local_elasticsearch import archive
from actionbus.adapters.local_elasticsearch.install import MAIN, NODE, NotInstallable, install, java
from actionbus.core.values.payload import dumps

DEFAULT_FOLDER: Final = Path("var/elasticsearch")
_START_S: Final = 90.0
_STOP_S: Final = 20.0


class LocalServer:
    """A node whose data, log and state lie in `folder`. `heap` is its Java heap in MiB."""

    def __init__(self, folder: Path = DEFAULT_FOLDER, heap: int = 512) -> None:
        self.folder = folder.absolute()
        self._heap = heap
        self._state = self.folder / "server.json"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file of what the node prints."""
        return self.folder / "server.log"

    def url(self) -> str | None:
        """Where it answers, or None while it does not run."""
        state = self._read()
        return f"http://127.0.0.1:{state['port']}" if state and _runs(state["pid"]) else None

    def pid(self) -> int | None:
        """Its process, or None while it does not run."""
        state = self._read()
        return state["pid"] if state and _runs(state["pid"]) else None

    def start(self, port: int | None = None) -> str:
        """Start it unless it runs, and wait until it answers; its URL. Raises NotInstallable or TimeoutError."""
        if found := self.url():
            self._wait(found)
            return found
        home = install()
        state = self._read()
        port = port or (state["port"] if state and _is_free(state["port"]) else _free_port())
        return self._run(home, port, archive.options(java(), home, self._rehearse))

    def _rehearse(self, folder: Path, options: list[str]) -> None:
        """Run a node in another folder until it answers; stopped, it may take its time to write down what it did."""
        node = LocalServer(folder, self._heap)
        try:
            node._run(install(), _any_free_port(), options)
            node.stop(_START_S)
        finally:
            node.kill()

    def _run(self, home: Path, port: int, options: list[str]) -> str:
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        class_path = os.pathsep.join([str(home / NODE), str(home / "lib" / "*")])
        line = [
            str(java()),
            f"-Xms{self._heap}m",
            f"-Xmx{self._heap}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # what it runs for is short: the second compiler costs more than it gains
            *options,
            "--enable-native-access=ALL-UNNAMED",
            "-Djava.awt.headless=true",
            "-cp",
            class_path,
            MAIN,
            str(home),
            str(self.folder / "data"),
            str(port),
        ]
        with self.log.open("ab") as log:
            # A session of its own, so that a Ctrl-C meant for its starter does not reach it.
            self._process = subprocess.Popen(
                line, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._state.write_text(dumps({"pid": self._process.pid, "port": port}))
        url = f"http://127.0.0.1:{port}"
        self._wait(url)
        return url

    def stop(self, patience: float = _STOP_S) -> bool:
        """Stop it, gently for `patience` seconds; whether it ran."""
        state = self._read()
        if not state or not _runs(state["pid"]):
            return False
        os.kill(state["pid"], signal.SIGTERM)
        deadline = time.monotonic() + patience
        while self._alive(state["pid"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._alive(state["pid"]):
            self.kill()
        return True

    def kill(self) -> None:
        """SIGKILL, as if the machine had crashed."""
        if (state := self._read()) and _runs(state["pid"]):
            os.kill(state["pid"], signal.SIGKILL)
            while self._alive(state["pid"]):
                time.sleep(0.02)

    def _read(self) -> dict[str, int] | None:
        try:
            state: dict[str, int] = json.loads(self._state.read_text())
        except (OSError, ValueError):
            return None
        return state

    def _alive(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        return _runs(pid)

    def _wait(self, url: str) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{url}/_cluster/health?wait_for_status=yellow", timeout=5):
                return
            if self._process is not None and self._process.poll() is not None:
                raise NotInstallable(f"Elasticsearch ended while it started; see {self.log}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"Elasticsearch does not answer at {url} after {_START_S:.0f} s; see {self.log}")
            time.sleep(0.1)


def _runs(pid: int) -> bool:
    """Whether the process is there and is a node of ours, not another that got its number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False
    with suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        return MAIN.encode() in line.split(b"\0")
    return not Path("/proc").exists()


def _free_port() -> int:
    for port in range(9200, 9300):
        if _is_free(port):
            return port
    raise NotInstallable("no free port between 9200 and 9299")


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
