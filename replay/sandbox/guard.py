"""Keeps a re-run handler inside its sandbox: sockets, processes, files and other databases are refused, by name.

An audit hook (PEP 578) sees what Python code does; what libpq does is not Python, so the ways into it that psycopg2 and
psycopg have are watched as well. What C code does otherwise is seen by nobody here: see `confinement`. The hook
is installed with the first sandbox, costs a comparison elsewhere, and cannot be taken out again.
"""

from __future__ import annotations

import _posixsubprocess
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Any, Final

import psycopg2
from psycopg2 import _psycopg
from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from actionbus.core.declare.dependencies import being_made
from actionbus.core.declare.reaching import is_reaching_out
from actionbus.replay.errors import LeavesSandbox

_REFUSED: Final = {
    "socket.connect",
    "socket.sendto",
    "socket.sendmsg",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.gethostbyaddr",
    "socket.getnameinfo",
    "socket.sethostname",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
    "sqlite3.connect",
    "urllib.Request",
    "http.client.connect",
    "smtplib.connect",
    "ftplib.connect",
    "imaplib.open",
    "poplib.connect",
    "syslog.syslog",
    "webbrowser.open",
}
_REFUSED_HERE: Final = {"os.putenv", "os.unsetenv", "os.kill", "os.killpg", "signal.pthread_kill", "ctypes.dlsym"}
"""What is left to tests, where calls of outside dependencies are made, and refused in a sandbox."""
_FILES: Final = {
    "open": 1,
    "os.remove": 1,
    "os.rename": 2,
    "os.rmdir": 1,
    "os.mkdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.utime": 1,
    "os.setxattr": 1,
    "os.removexattr": 1,
}
"""What changes files, and how many of its arguments name one."""
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_LOGGING: Final = tuple(f"logging{os.sep}{each}.py" for each in ("__init__", "handlers"))
_TERMINALS: Final = ("/dev/tty", "/dev/pts/")
is_whole_process = False
"""Whether nothing but a replay happens in this process, so that every thread of it is the replay's."""
_INSIDE = ("/site-packages/", "/dist-packages/")


class GuardedBlock:
    """Refuse what leaves the sandbox while the block runs, in this thread and in threads that it starts.

    With `made_calls` the calls of outside dependencies are made, as in a test: only what else reaches out is refused,
    and only in this thread.
    """

    def __init__(self, engine: Engine, action: str, *, made_calls: bool = False) -> None:
        self.engine, self.action, self.made_calls = engine, action, made_calls
        self.others: frozenset[int | None] = frozenset()
        """The threads of the rest of the process."""

    def __enter__(self) -> None:
        install()
        here = threading.get_ident()
        if not self.made_calls:
            self.others = frozenset(each.ident for each in threading.enumerate())
        self._before = _active.get(here)
        _active[here] = self

    def __exit__(self, *_: object) -> None:
        _restore(self._before)


_active: dict[int, GuardedBlock] = {}
"""By thread: the guard that it is in."""
_installed = False


def _restore(before: GuardedBlock | None) -> None:
    here = threading.get_ident()
    if before is None:
        _active.pop(here, None)
    else:
        _active[here] = before


@contextmanager
def opened() -> Iterator[None]:
    """Let the sandbox's own machinery, such as a debugger's terminal, do as it likes."""
    before = _active.pop(threading.get_ident(), None)
    try:
        yield
    finally:
        _restore(before)


def _guard() -> GuardedBlock | None:
    """The guard that this thread is in, or that of the handler which started it."""
    here = threading.get_ident()
    if (own := _active.get(here)) is not None:
        return own
    return next(
        (
            each
            for each in list(_active.values())
            if not each.made_calls and (is_whole_process or here not in each.others)
        ),
        None,
    )


def install() -> None:
    """Watch from now on; any number of times."""
    global _installed
    if _installed:
        return
    _installed = True
    tempfile.gettempdir()  # which writes a file when it is first asked
    sys.addaudithook(_hook)
    event.listen(Pool, "checkout", _checkout)
    psycopg2._connect = _psycopg._connect = _watched(psycopg2._connect, "psycopg2.connect(…)")  # type: ignore[attr-defined]
    with suppress(ImportError):  # it may be there without a libpq, and nobody can connect with it then
        base = import_module("psycopg._connection_base").BaseConnection
        base._connect_gen = classmethod(_watched(base._connect_gen.__func__, "psycopg.connect(…)"))
    # `multiprocessing` starts processes with this, and no event tells it.
    _posixsubprocess.fork_exec = _watched(_posixsubprocess.fork_exec, "a process")


def _hook(name: str, args: tuple[Any, ...]) -> None:
    if not _active:
        return
    if name in _REFUSED and (guard := _guard()) is not None:
        if name == "sqlite3.connect" and ((args and str(args[0]) in ("", ":memory:")) or _is_own_pool(guard)):
            return
        _refuse(guard, f"{name}({', '.join(_shown(each) for each in args)})")
        return
    if (name not in _REFUSED_HERE and name not in _FILES) or (guard := _guard()) is None or guard.made_calls:
        return
    if name in _REFUSED_HERE or _leaves(name, args):
        told = args[: _FILES.get(name, len(args))]
        _refuse(guard, f"{name}({', '.join(_shown(each) for each in told)})")


def _leaves(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a file elsewhere than in the folder for temporary files, or in one of Python's own, is changed."""
    if name == "open" and not (isinstance(args[2], int) and args[2] & _WRITES):
        return False
    places = [os.fsdecode(each) for each in args[: _FILES[name]] if isinstance(each, (str, bytes, os.PathLike))]
    scratch = f"{os.path.realpath(tempfile.gettempdir())}{os.sep}"
    outside = [
        each
        for each in map(os.path.realpath, places)
        if not (each.startswith((scratch, *_TERMINALS)) or each == os.devnull)
    ]
    return any("__pycache__" not in each for each in outside) and not _is_logging()


def _is_logging() -> bool:
    """Whether it is the log that is written, which says of itself that it was a replay."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.endswith(_LOGGING):
        frame = frame.f_back
    return frame is not None


def _checkout(connection: Any, record: Any, proxy: Any) -> None:
    if _active and (guard := _guard()) is not None and proxy is not None and proxy._pool is not guard.engine.pool:
        _refuse(guard, "a database connection of another engine")


def _watched(do: Callable[..., Any], what: str) -> Callable[..., Any]:
    def do_unless_inside(*args: Any, **kwargs: Any) -> Any:
        if _active and (guard := _guard()) is not None and not _is_own_pool(guard):
            _refuse(guard, what)
        return do(*args, **kwargs)

    return do_unless_inside


def _is_own_pool(guard: GuardedBlock) -> bool:
    """Whether the sandbox's own engine is connecting, such as for a nested connection of a test's database."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_locals.get("self") is guard.engine.pool:
            return True
        frame = frame.f_back
    return False


def _refuse(guard: GuardedBlock, what: str) -> None:
    if guard.made_calls and is_reaching_out():
        return
    provider = being_made()
    by = f"the dependency {provider.name!r}" if provider else f"the action {guard.action}"
    raise LeavesSandbox(
        f"{by} tried {what}, at {_where(sys._getframe(2))}; a sandbox does not reach outside. Declare what does as "
        "`outside(…)`, so that its calls are recorded and played back"
    )


def _where(frame: FrameType | None) -> str:
    """The application's own line nearest to the attempt."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((sys.base_prefix, "<")) and not any(part in file for part in _INSIDE):
            return f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return "(unknown)"


def _shown(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "socket" or kind.__name__ == "socket" else repr(value)[:100]
