"""Ways out of a sandbox, each tried by an action that is run again. Used by `test_ways_out.py`.

Run as a program it confines itself, tries those of its arguments, and prints what came of each, as JSON.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psycopg
import psycopg2
import psycopg2._psycopg
import psycopg2.extensions

PLACE: Final[dict[str, Any]] = {
    "port": 9,
    "folder": Path("/nowhere"),
    "other": "/nowhere/other.db",
    "postgres": "host=/nowhere",
}
"""Where they lead: a port of this machine, a folder, a database of SQLite, one of PostgreSQL."""
OLDER: Final = concurrent.futures.ThreadPoolExecutor(1)
"""A thread that is older than the action, once it was used."""


def _connected() -> None:
    with socket.socket() as opened:
        opened.connect(("127.0.0.1", PLACE["port"]))


def _open(do: Callable[[socket.socket], Any], kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> Any:
    def way(handler: Any = None) -> None:
        with socket.socket(family, kind) as opened:
            do(opened)

    return way


def _by_ctypes_connect() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    opened = library.socket(2, 1, 0)
    if opened < 0:
        raise PermissionError(ctypes.get_errno(), "socket")


def _by_ctypes_system() -> None:
    if ctypes.CDLL(None).system(f"touch {PLACE['folder'] / 'system'}".encode()) != 0:
        raise PermissionError("system")


def _spawned() -> None:
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()


def _thread(do: Callable[[], Any]) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


class _Finalized:
    pass


def _finalize() -> None:
    kept: list[BaseException] = []

    def run() -> None:
        try:
            _written("finalized")
        except BaseException as error:
            kept.append(error)

    made = _Finalized()
    weakref.finalize(made, run)
    del made
    if kept:
        raise kept[0]


def _written(name: str) -> None:
    (PLACE["folder"] / name).write_text("x")


def _os_open() -> None:
    os.close(os.open(PLACE["folder"] / "os", os.O_WRONLY | os.O_CREAT))


def _there(do: Callable[[Path], Any]) -> Callable[[Any], Any]:
    return lambda handler: do(PLACE["folder"] / "there")


def _run_async(do: Callable[[], Any]) -> None:
    async def main() -> None:
        await do()

    asyncio.run(main())


def _sql(statement: str) -> Callable[[Any], Any]:
    return lambda handler: handler.session.connection().exec_driver_sql(statement.format(**PLACE))


def _raw(statement: str) -> Callable[[Any], Any]:
    def run(handler: Any) -> None:
        handler.session.connection().connection.cursor().execute(statement.format(**PLACE))

    return run


def _fork() -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _exit() -> None:
    raise SystemExit(3)


NAMED: Final[dict[str, Callable[[Any], Any]]] = {
    "connect": lambda h: _connected(),
    "create_connection": lambda h: socket.create_connection(("127.0.0.1", PLACE["port"]), 1),
    "connect_ex": _open(lambda s: s.connect_ex(("127.0.0.1", PLACE["port"]))),
    "udp": _open(lambda s: s.sendto(b"x", ("127.0.0.1", PLACE["port"])), socket.SOCK_DGRAM),
    "sendmsg": _open(lambda s: s.sendmsg([b"x"], [], 0, ("127.0.0.1", PLACE["port"])), socket.SOCK_DGRAM),
    "bind": _open(lambda s: s.bind(("127.0.0.1", 0))),
    "unix socket": _open(lambda s: s.connect(str(PLACE["folder"] / "socket")), family=socket.AF_UNIX),
    "getaddrinfo": lambda h: socket.getaddrinfo("localhost", 80),
    "gethostbyname": lambda h: socket.gethostbyname("localhost"),
    "gethostbyname_ex": lambda h: socket.gethostbyname_ex("localhost"),
    "gethostbyaddr": lambda h: socket.gethostbyaddr("127.0.0.1"),
    "getnameinfo": lambda h: socket.getnameinfo(("127.0.0.1", 80), 0),
    "getfqdn": lambda h: socket.gethostbyaddr("127.0.0.1"),
    "urllib": lambda h: urllib.request.urlopen(f"http://127.0.0.1:{PLACE['port']}", timeout=1),
    "asyncio streams": lambda h: _run_async(lambda: asyncio.open_connection("127.0.0.1", PLACE["port"])),
    "asyncio process": lambda h: _run_async(lambda: asyncio.create_subprocess_exec("true")),
    "psycopg2": lambda h: psycopg2.connect(PLACE["postgres"]),
    "psycopg2._psycopg": lambda h: psycopg2._psycopg._connect(PLACE["postgres"]),
    "psycopg": lambda h: psycopg.connect(PLACE["postgres"]),
    "psycopg, asynchronous": lambda h: _run_async(lambda: psycopg.AsyncConnection.connect(PLACE["postgres"])),
    "sqlite3": lambda h: sqlite3.connect(PLACE["other"]),
    "sqlite3.Connection": lambda h: sqlite3.Connection(PLACE["other"]),
    "attach": _sql("ATTACH DATABASE '{other}' AS other"),
    "vacuum into": _sql("VACUUM INTO '{other}'"),
    "subprocess": lambda h: subprocess.run(["true"], check=True),
    "system": lambda h: os.system("true"),
    "popen": lambda h: os.popen("true"),
    "fork": lambda h: _fork(),
    "posix_spawn": lambda h: os.posix_spawn("/bin/true", ["true"], {}),
    "exec": lambda h: os.execv("/bin/true", ["true"]),
    "multiprocessing, spawn": lambda h: _spawned(),
    "thread": lambda h: _thread(_connected),
    "finalizer": lambda h: _finalize(),
    "open, writing": lambda h: _written("open"),
    "os.open": lambda h: _os_open(),
    "unlink": _there(os.unlink),
    "rename": _there(lambda file: file.rename(file.with_name("moved"))),
    "copy": _there(lambda file: shutil.copy(file, file.with_name("copied"))),
    "truncate": _there(lambda file: os.truncate(file, 0)),
    "chmod": _there(lambda file: file.chmod(0o600)),
    "mkdir": lambda h: (PLACE["folder"] / "made").mkdir(),
    "symlink": lambda h: (PLACE["folder"] / "link").symlink_to("there"),
    "link": _there(lambda file: os.link(file, file.with_name("hard"))),
    "utime": _there(lambda file: os.utime(file, (1, 1))),
    "environment": lambda h: os.environ.update(LEFT_BEHIND="1"),
    "unsetenv": lambda h: os.unsetenv("LEFT_BEHIND"),
    "kill": lambda h: os.kill(os.getppid(), 0),
    "killpg": lambda h: os.killpg(os.getpgrp(), 0),
    "pthread_kill": lambda h: signal.pthread_kill(threading.get_ident(), 0),
    "ctypes, connect": lambda h: _by_ctypes_connect(),
    "ctypes, system": lambda h: _by_ctypes_system(),
}
"""Refused by the guard, which says what was tried."""
OTHERWISE: Final[dict[str, Callable[[Any], Any]]] = {
    "attach, by the driver": _raw("ATTACH DATABASE '{other}' AS other"),
    "exit": lambda h: _exit(),
}
"""Refused too, but without our words."""
KERNEL_ONLY: Final[dict[str, Callable[[], Any]]] = {
    "older thread": lambda: OLDER.submit(_connected).result(),
    "psycopg2.extensions.connection": lambda: psycopg2.extensions.connection(f"host=127.0.0.1 port={PLACE['port']}"),
    "socket of another family": _open(print, family=socket.AF_INET6),
    "raw socket": _open(print, socket.SOCK_RAW, socket.AF_PACKET),
    "netlink": _open(print, socket.SOCK_RAW, socket.AF_NETLINK),
    "file, by a library": lambda: sqlite3.connect(PLACE["other"]).execute("CREATE TABLE a (b)"),
    "signal, by ctypes": lambda: _called("kill", os.getppid(), 0),
    "fork, by ctypes": lambda: _called("fork"),
    "execve, by ctypes": lambda: _called("execv", b"/bin/true", None),
    "ptrace, by ctypes": lambda: _called("ptrace", 16, os.getppid(), None, None),
    "namespaces, by ctypes": lambda: _called("unshare", 0x40000000),
    "io_uring, by ctypes": lambda: _called("syscall", 425, 1, None),
}
"""The guard does not see these in a process that does other things as well; the kernel refuses them where it confines."""


def _called(name: str, *arguments: Any) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def confined() -> None:
    """Confine this process, and try all that the kernel is to refuse."""
    from actionbus.replay import confine

    PLACE.update(json.loads(sys.argv[1]))
    PLACE["folder"] = Path(PLACE["folder"])
    OLDER.submit(int).result()
    assert confine([Path(PLACE["scratch"])], unix_sockets=False) is None
    told = {}
    for name, way in (KERNEL_ONLY | {name: lambda way=way: way(None) for name, way in NAMED.items()}).items():
        if name in ("attach", "vacuum into", "environment", "unsetenv", "pthread_kill", "exec"):
            continue  # of a session, or of this process alone
        try:
            told[name] = f"{way()!r} returned"
        except BaseException as error:
            told[name] = type(error).__name__
    Path(PLACE["scratch"], "kept").write_text("inside")
    told["thread"] = told["thread"] if told["thread"] != "None returned" else "went on"
    print(json.dumps(told))


if __name__ == "__main__":
    confined()
