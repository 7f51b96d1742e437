"""Databases that begin the same in many tests: made once by each process that runs tests, then copied.

Making one takes longer than most tests do. Fixtures call `copied`; whoever tests how tables come to be makes them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

from sqlalchemy.engine import URL, make_url

from tests.servers import RUNNING, in_memory

_files: dict[str, Path] = {}


def copied(url: URL, what: str, make: Callable[[URL], None]) -> bool:
    """Have in an empty database a copy of what `make` puts into one; `what` names it. The copy has its own identity.

    False, and nothing is done, if somebody has used the database before, or it cannot be copied to.
    """
    if url.get_backend_name() == "sqlite":
        return _copied_file(url, what, make)
    return any(server.has(url) and server.fill(url, what, make) for server in RUNNING)


def _copied_file(url: URL, what: str, make: Callable[[URL], None]) -> bool:
    if url.query or not url.database or url.database == ":memory:" or Path(url.database).exists():
        return False
    if what not in _files:
        folder = Path(mkdtemp(prefix="actionbus-copies-", dir=in_memory()))
        atexit.register(_remove, folder, os.getpid())
        make(make_url(f"sqlite:///{folder / 'made.db'}"))
        made, *beside = sorted(folder.iterdir())
        assert not any(each.stat().st_size for each in beside), "what was written is in it; beside it are at most locks"
        _files[what] = made
    shutil.copyfile(_files[what], url.database)
    with closing(sqlite3.connect(url.database)) as connection, connection:
        connection.execute("UPDATE actionbus_identity SET identity = ?", (uuid4().hex,))
    return True


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child ends as well
        shutil.rmtree(folder)
