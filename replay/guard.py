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

import psycopg2
from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from actionbus.core.declare.dependencies import being_made
from actionbus.core.declare.reaching import is_reaching_out
from actionbus.replay.errors import LeavesSandbox

_REFUSED: Final = {
    "socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname",
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "sqlite3.connect",
    "urllib.Request", "http.client.connect", "smtplib.connect", "ftplib.connect",
}  # fmt: skip
_INSIDE = ("/site-packages/", "/dist-packages/")


class guarded:  # noqa: N801 - a context manager, written out because every re-run action enters it
    """Refuse what leaves the sandbox while the block runs, in this thread and in threads that it starts.

    With `made_calls` the calls of outside dependencies are made, as in a test: only what else reaches out is refused,
    and only in this thread.
    """

    def __init__(self, engine: Engine, action: str, *, made_calls: bool = False) -> None:
        self.engine, self.action, self.made_calls = engine, action, made_calls
        self.others: frozenset[int | None] = frozenset()
        """The threads of the rest of the process."""

    def __enter__(self) -> None:
        _install()
        here = threading.get_ident()
        if not self.made_calls:
            self.others = frozenset(each.ident for each in threading.enumerate())
        self._before = _active.get(here)
        _active[here] = self

    def __exit__(self, *_: object) -> None:
        _restore(self._before)


_active: dict[int, guarded] = {}
"""By thread: the guard that it is in."""
_installed = False


def _restore(before: guarded | None) -> None:
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


def _guard() -> guarded | None:
    """The guard that this thread is in, or that of the handler which started it."""
    here = threading.get_ident()
    if (own := _active.get(here)) is not None:
        return own
    return next((each for each in list(_active.values()) if not each.made_calls and here not in each.others), None)


def _install() -> None:
    global _installed
    if _installed:
        return
    _installed = True
    sys.addaudithook(_hook)
    event.listen(Pool, "checkout", _checkout)
    psycopg2._connect = _watched(psycopg2._connect)  # type: ignore[attr-defined]


def _hook(name: str, args: tuple[Any, ...]) -> None:
    if _active and name in _REFUSED and (guard := _guard()) is not None:
        if name == "sqlite3.connect" and ((args and str(args[0]) in ("", ":memory:")) or _is_own_pool(guard)):
            return
        _refuse(guard, f"{name}({', '.join(_shown(each) for each in args)})")


def _checkout(connection: Any, record: Any, proxy: Any) -> None:
    if _active and (guard := _guard()) is not None and proxy is not None and proxy._pool is not guard.engine.pool:
        _refuse(guard, "a database connection of another engine")


def _watched(connect: Callable[..., Any]) -> Callable[..., Any]:
    def connect_unless_inside(*args: Any, **kwargs: Any) -> Any:
        if _active and (guard := _guard()) is not None and not _is_own_pool(guard):
            _refuse(guard, "psycopg2.connect(…)")
        return connect(*args, **kwargs)

    return connect_unless_inside


def _is_own_pool(guard: guarded) -> bool:
    """Whether the sandbox's own engine is connecting, such as for a nested connection of a test's database."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_locals.get("self") is guard.engine.pool:
            return True
        frame = frame.f_back
    return False


def _refuse(guard: guarded, what: str) -> None:
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
