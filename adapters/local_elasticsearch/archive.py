"""The classes that the node loads, archived as the JVM does: with them it starts in a third of the time. `server` asks.

Made once for this installation and Java, by a node that starts, answers and is stopped (JEP 514, Java 25). The JVM
looks whether an archive fits, and starts without one that does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from actionbus.adapters.local_elasticsearch.install import NotInstallable, alone_in

_QUIET: Final = "-Xlog:aot*=off,cds*=off"
"""What the JVM says of an archive that does not fit would be taken for a trouble of the node's."""


def options(runtime: Path, home: Path, rehearse: Callable[[Path, list[str]], None]) -> list[str]:
    """Options for a start with the archive, which is made if there is none; none where it cannot be made.

    `rehearse` starts a node in an empty folder, with more options, waits until it answers, and stops it.
    """
    with suppress(OSError):  # a folder of somebody else's: it starts as if there were no archives
        archive = home / f"start-{_kind(runtime)}.aot"
        if not archive.exists():
            with alone_in(home):
                if not archive.exists():
                    _make(archive, rehearse)
        if archive.stat().st_size:
            return [f"-XX:AOTCache={archive}", _QUIET]
    return []


def _kind(runtime: Path) -> str:
    """What tells this Java from every other."""
    return hashlib.sha256((runtime.parents[1] / "release").read_bytes()).hexdigest()[:12]


def _make(archive: Path, rehearse: Callable[[Path, list[str]], None]) -> None:
    """An empty one says that it could not be made, so that nobody tries at each start."""
    with TemporaryDirectory(dir=archive.parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "made.aot"
        with suppress(NotInstallable, TimeoutError):
            rehearse(Path(folder) / "node", [f"-XX:AOTCacheOutput={made}", _QUIET])
        made.touch()
        made.replace(archive)
