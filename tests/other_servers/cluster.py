"""A cluster of three nodes of the local Elasticsearch, each of which can be killed. Used by the long campaigns."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from elasticsearch import ApiError, Elasticsearch, TransportError

from actionbus.adapters.local_elasticsearch import install
from tests.servers import free_port
from tests.waiting import eventually

HERE: Final = Path(__file__).parent
NAMES: Final = ("one", "two", "three")


class Cluster:
    """Three nodes; `url` names them all."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._home = folder, install.install()
        self._http = {name: free_port() for name in NAMES}
        self._transport = {name: free_port() for name in NAMES}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.url = ",".join(f"http://127.0.0.1:{self._http[name]}" for name in NAMES)
        self.client = Elasticsearch(self.url.split(","), request_timeout=10, max_retries=3, retry_on_timeout=True)
        (compiler,) = self._home.glob("tools/ecj-*.jar")
        path = os.pathsep.join(str(jar) for jar in (self._home / "lib").glob("*.jar"))
        line = [install.java(), "-jar", compiler, "-21", "-nowarn", "-d", folder / "classes", "-cp", path]
        subprocess.run([*line, HERE / "ClusterNode.java"], check=True)

    def start(self, name: str) -> None:
        """Start a node, or start it again on its data."""
        data = self._folder / name
        data.mkdir(exist_ok=True)
        path = os.pathsep.join([str(self._folder / "classes"), str(self._home / "lib" / "*")])
        seeds = ",".join(f"127.0.0.1:{port}" for port in self._transport.values())
        line = [
            install.java(),
            "-Xms300m",
            "-Xmx300m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            path,
            "ClusterNode",
            self._home,
            data,
            str(self._http[name]),
            str(self._transport[name]),
            name,
            seeds,
            ",".join(NAMES),
        ]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)

    def kill(self, name: str) -> None:
        """SIGKILL, as if its machine had crashed."""
        self._processes[name].kill()
        self._processes[name].wait()

    def is_whole(self) -> bool:
        """Whether all nodes and all copies are there."""
        with suppress(ApiError, TransportError):
            found: dict[str, Any] = self.client.cluster.health().body
            return bool(found["number_of_nodes"] == len(NAMES) and found["status"] == "green")
        return False

    def close(self) -> None:
        """End all of them."""
        self.client.close()
        for process in self._processes.values():
            process.kill()
            process.wait()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """One that is whole."""
    folder = Path(tempfile.mkdtemp(prefix="actionbus-cluster-"))
    made = Cluster(folder)
    try:
        for name in NAMES:
            made.start(name)
        eventually(made.is_whole, lambda: f"three nodes are one cluster: {folder}")
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)
