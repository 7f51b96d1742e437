"""Runs a replay in a process of its own, which the operating system confines for good. Used by `adapters.cli.replay`.

The parent waits, and cleans up what the child may not: its database is dropped by whoever made it. Only where the whole
process is this command's (`process.program`), never where somebody calls the commands from a program of his own.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, text

from actionbus.adapters.cli.history_output import note
from actionbus.adapters.cli.process import Process
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.replay.sandbox.confinement import confine, why_not

_CONNECTIONS: Final = 3
"""Made before, since none can be made afterwards: more than a replay ever uses at once."""


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for temporary files, gone afterwards; the parent's to remove."""
    with tempfile.TemporaryDirectory(prefix="actionbus-scratch-") as folder:
        yield Path(folder)


def fork(held: ExitStack) -> None:
    """Go on in a child, whose exit code this process then has: SystemExit. Does nothing where that must not be.

    What is `held` stays the parent's.
    """
    if not Process.may_fork or Process.is_child or why_not() is not None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        Process.is_child, Process.left = True, held.pop_all()
        return
    raise SystemExit(_ended(child))


def _ended(child: int) -> int:
    """The exit code of a child. Ctrl-C reaches it as well, and it says so."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        signal.signal(signal.SIGINT, before)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def confine_child(backend: Backend, sandbox: Engine, folder: Path, *, also: Path | None = None) -> None:
    """Confine this process, if it is the child. It may write into `folder`, its sandbox's and `also`."""
    if not Process.is_child:
        if Process.may_fork and (why := why_not()):
            note(f"the operating system does not confine this replay, Python alone does: {why}")
        return
    _connect(backend)
    places = [folder, *([also] if also else [])]
    if sandbox.url.get_backend_name() == "sqlite" and sandbox.url.database:
        places.append(Path(sandbox.url.database).resolve().parent)
    tempfile.tempdir = str(folder)
    os.environ["TMPDIR"] = str(folder)
    if undone := confine(places, unix_sockets=any(map(_is_local, (backend.engine, sandbox)))):
        note(undone)


def _connect(backend: Backend) -> None:
    """Have the connections that the journal is read over, each with its files open."""
    held = [backend.connection() for _ in range(_CONNECTIONS)]
    opened = [each.__enter__() for each in held]
    for connection in opened:
        if connection.dialect.name == "sqlite":  # which has found out already where temporary files could lie
            connection.exec_driver_sql("PRAGMA temp_store=MEMORY")
        connection.execute(text(f"SELECT count(*) FROM (SELECT 1 FROM {in_text(backend.journal_name)} LIMIT 1) j"))
    for each in held:
        each.__exit__(None, None, None)


def _is_local(engine: Engine) -> bool:
    """Whether a database is reached by a UNIX socket."""
    host = engine.url.query.get("host") or engine.url.host
    return engine.url.get_backend_name() == "postgresql" and (not host or str(host).startswith("/"))
