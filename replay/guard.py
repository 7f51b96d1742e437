"""Keeps a re-run handler inside its sandbox: sockets, processes and other databases are refused, by name.

An audit hook (PEP 578) sees what Python code does; what libpq does is not Python, so psycopg2's way in is watched as
well. The hook is installed with the first sandbox, costs a comparison elsewhere, and cannot be taken out again.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from replay.errors import LeavesSandbox

_REFUSED: Final = {
    "socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname",
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "sqlite3.connect",
    "urllib.Request", "http.client.connect", "smtplib.connect", "ftplib.connect",
}  # fmt: skip
_INSIDE = ("/site-packages/", "/dist-packages/")


class _State:
    """Which threads run handlers in a sandbox now, and which belong to the rest of the process."""

    def __init__(self) -> None:
        self.engine: Any = None
        self.thread = 0
        self.others: frozenset[int | None] = frozenset()
        self.action = ""


_now = _State()
_lock = threading.RLock()
_installed = False


class guarded:  # noqa: N801 - a context manager, written out because every re-run action enters it
    """Refuse what leaves the sandbox while the block runs, in this thread and in threads that it starts."""

    def __init__(self, engine: Engine, action: str) -> None:
        self._engine, self._action = engine, action

    def __enter__(self) -> None:
        _install()
        _lock.acquire()
        self._before = (_now.engine, _now.thread, _now.others, _now.action)
        ours = threading.get_ident()
        _now.others = frozenset(each.ident for each in threading.enumerate() if each.ident != ours)
        _now.engine, _now.action, _now.thread = self._engine, self._action, ours

    def __exit__(self, *_: object) -> None:
        _now.engine, _now.thread, _now.others, _now.action = self._before
        _lock.release()


@contextmanager
def opened() -> Iterator[None]:
    """Let the sandbox's own machinery, such as a debugger's terminal, do as it likes."""
    thread, _now.thread = _now.thread, 0
    try:
        yield
    finally:
        _now.thread = thread


def _is_inside() -> bool:
    return _now.thread != 0 and threading.get_ident() not in _now.others


def _install() -> None:
    global _installed
    if _installed:
        return
    _installed = True
    sys.addaudithook(_hook)
    event.listen(Pool, "checkout", _checkout)
    try:
        import psycopg2
    except ImportError:  # pragma: no cover - a fixed dependency
        return
    psycopg2._connect = _watched(psycopg2._connect)  # type: ignore[attr-defined]


def _hook(name: str, args: tuple[Any, ...]) -> None:
    if _now.thread and name in _REFUSED and _is_inside():
        if name == "sqlite3.connect" and args and str(args[0]) in ("", ":memory:"):
            return
        raise _refusal(f"{name}({', '.join(_shown(each) for each in args)})")


def _checkout(connection: Any, record: Any, proxy: Any) -> None:
    if _now.thread and _is_inside() and proxy is not None and proxy._pool is not _now.engine.pool:
        raise _refusal("a database connection of another engine")


def _watched(connect: Callable[..., Any]) -> Callable[..., Any]:
    def connect_unless_inside(*args: Any, **kwargs: Any) -> Any:
        if _now.thread and _is_inside():
            raise _refusal("psycopg2.connect(…)")
        return connect(*args, **kwargs)

    return connect_unless_inside


def _refusal(what: str) -> LeavesSandbox:
    where, dependency = _culprit(sys._getframe(2))
    by = f"the dependency {dependency!r}" if dependency else f"the action {_now.action}"
    return LeavesSandbox(
        f"{by} tried {what}, at {where}; a sandbox does not reach outside. Declare what does as `outside(…)`, so that "
        "its calls are recorded and played back"
    )


def _culprit(frame: FrameType | None) -> tuple[str, str | None]:
    """The application's own line nearest to the attempt, and the dependency that was being made, if one was."""
    where, dependency = "", None
    while frame is not None:
        file = frame.f_code.co_filename
        if not where and not file.startswith((sys.base_prefix, "<")) and not any(part in file for part in _INSIDE):
            where = f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
        if frame.f_code.co_name == "make" and file.endswith("core/dependencies.py"):
            dependency = frame.f_locals["provider"].name
        frame = frame.f_back
    return where or "(unknown)", dependency


def _shown(value: Any) -> str:
    return (
        type(value).__name__
        if type(value).__module__ == "socket" or type(value).__name__ == "socket"
        else repr(value)[:100]
    )
