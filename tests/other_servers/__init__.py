"""Servers that answer as Elasticsearch does, or nearly: one of version 8, and OpenSearch. Each runs while it is needed.

Pinned and fetched as the local Elasticsearch is (`adapters/local_elasticsearch/install.py`), once for this machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.error import HTTPError

from actionbus.adapters.local_elasticsearch import install
from actionbus.adapters.local_elasticsearch.install import Jar
from tests.servers import free_port
from tests.waiting import eventually

HERE: Final = Path(__file__).parent
_DESCRIPTOR: Final = "META-INF/es-plugins/transport-netty4/plugin-descriptor.properties"


@contextmanager
def elasticsearch_8() -> Iterator[str]:
    """The URL of an Elasticsearch 8.19."""
    with _running(_installed("elasticsearch8.lock", "Elasticsearch8"), "Elasticsearch8") as url:
        yield url


@contextmanager
def opensearch() -> Iterator[str]:
    """The URL of an OpenSearch."""
    with _running(_installed("opensearch.lock", "OpenSearch"), "OpenSearch") as url:
        yield url


def _installed(lock: str, main: str) -> Path:
    pinned = hashlib.sha256((HERE / lock).read_bytes() + (HERE / f"{main}.java").read_bytes()).hexdigest()
    found = install.home().parent / f"{main.lower()}-{pinned[:12]}"
    if not (found / "complete").exists():
        jars = [_jar(line) for line in (HERE / lock).read_text().splitlines() if not line.startswith("#")]
        for jar in jars:
            install._fetch(found, jar)
        for folder in ("config", "plugins", "modules"):
            (found / folder).mkdir(exist_ok=True)
        _describe(found, jars)
        _compile(found, main)
        (found / "complete").touch()
    return found


def _jar(line: str) -> Jar:
    sha256, size, folder, path = line.split()
    return Jar(sha256, int(size), folder, path)


def _describe(found: Path, jars: list[Jar]) -> None:
    for jar in jars:
        if jar.folder.endswith("transport-netty4") and "/transport-netty4/" in jar.path:
            with zipfile.ZipFile(found / jar.file) as archive:
                lines = archive.read(_DESCRIPTOR).decode().splitlines()
            told = ("modulename=" if line.startswith("modulename=") else line for line in lines)
            (found / jar.folder / "plugin-descriptor.properties").write_text("\n".join(told))


def _compile(found: Path, main: str) -> None:
    (compiler,) = found.glob("tools/ecj-*.jar")
    class_path = os.pathsep.join(str(jar) for jar in (found / "lib").glob("*.jar"))
    line = [install.java(), "-jar", compiler, "-17", "-nowarn", "-d", found / "classes", "-cp", class_path]
    subprocess.run([*line, HERE / f"{main}.java"], check=True)


@contextmanager
def _running(home: Path, main: str) -> Iterator[str]:
    data, port = Path(tempfile.mkdtemp(prefix="actionbus-other-")), free_port()
    class_path = os.pathsep.join([str(home / "classes"), str(home / "lib" / "*")])
    line = [install.java(), "-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path]
    with (data / "log").open("ab") as log:
        process = subprocess.Popen([*line, main, home, data, str(port)], stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert process.poll() is None, (data / "log").read_text()[-3000:]
            with suppress(HTTPError, OSError), urllib.request.urlopen(f"{url}/_cluster/health", timeout=2):
                return True
            return False

        eventually(answers, lambda: f"{main} answers: {(data / 'log').read_text()[-3000:]}")
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(data)
