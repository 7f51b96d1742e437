"""The process that commands under test are forked from: it has imported what they import (`tests/processes.py`).

It has one thread, no connection and nothing of a test, so that a child is as a fresh interpreter after its imports: it
gets the command's arguments, folder, environment and files, and streams, signals and paths as an interpreter sets them.
A child has the parent of the template for its parent, as if that had started it: its pid, status and session are true.
It ends as an interpreter does, but leaves the taking apart of what was imported before it to the system: that would copy
all the template's memory, and take seven times as long as all else that a child costs.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import json
import os
import platform
import runpy
import signal
import socket
import sys
import threading
import time
import types
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

COMMANDS = [
    f"actionbus.adapters.cli.{file.stem}"
    for file in sorted((Path(__file__).parents[1] / "adapters" / "cli").glob("[a-z]*.py"))
]
WHAT_THEY_IMPORT = (
    "actionbus.adapters.library.app",
    "actionbus.celery",
    "actionbus.flask",
    "celery.app.log",
    "celery.app.trace",
    "celery.apps.worker",
    "celery.bin.worker",
    "celery.concurrency.prefork",
    "celery.fixups.django",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "elasticsearch",
    "kombu.transport.redis",
    "prometheus_client",
    "psycopg2.extras",
    "pytest",
    "redis",
    "sqlite3",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "waitress",
)
"""When they are called; all but the application under test, whose import may do anything."""

CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine(), 0) if sys.platform == "linux" else 0
"""The system call's number; where it is not known, everything is started as ever."""
CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, PR_GET_TID_ADDRESS = 0x8000, 0x200000, 0x1000000, 40
PACKET = 150_000
"""Of so many bytes an order can be."""


def serve(orders: socket.socket) -> dict[str, Any]:
    """Fork a child for each order, until nobody is left to give one; in a child, return the order."""
    while True:
        said, files, _, _ = socket.recv_fds(orders, PACKET, 3)
        if not said:
            os._exit(0)
        if not (child := sibling()):
            orders.close()
            take_files(files)
            found: dict[str, Any] = json.loads(said)
            return found
        for each in files:
            os.close(each)
        orders.send(str(child).encode())


def sibling() -> int:
    """`os.fork`, but for the child's parent, which is ours."""
    libc, python = ctypes.PyDLL(None, use_errno=True), ctypes.pythonapi
    # Where the C library keeps the thread's id, which it sets anew when it forks.
    kept = ctypes.c_void_p()
    assert libc.prctl(PR_GET_TID_ADDRESS, ctypes.byref(kept), 0, 0, 0) == 0
    flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | signal.SIGCHLD
    libc.syscall.restype = long = ctypes.c_long
    python.PyOS_BeforeFork()
    pid: int = libc.syscall(long(CLONE), long(flags), long(0), long(0), kept, kept)
    if pid:
        python.PyOS_AfterFork_Parent()
        assert pid > 0, os.strerror(ctypes.get_errno())
    else:
        python.PyOS_AfterFork_Child()
    return pid


def take_files(files: list[int]) -> None:
    """Have these for 0, 1 and 2, and no others."""
    for target, each in enumerate(files):
        os.dup2(each, target)
    os.closerange(3, 256)


def become(order: dict[str, Any], paths: list[str]) -> None:
    """Be as an interpreter that was started so, and run what it was to run."""
    if order["session"]:
        os.setsid()
    if order["umask"] != -1:
        os.umask(order["umask"])
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.orig_argv = [sys.executable, *order["arguments"]]
    first, *rest = order["arguments"]
    sys.argv = order["arguments"] if first not in ("-c", "-m") else [first, *rest[1:]]
    more = os.environ.get("PYTHONPATH", "")
    beside = {"-c": "", "-m": str(Path.cwd())}.get(first, os.path.dirname(os.path.realpath(first)))  # noqa: PTH120
    sys.path[:] = [beside, *(os.path.abspath(each) for each in more.split(os.pathsep) if more), *paths]
    sys.path_importer_cache.clear()
    set_streams()
    if told := os.environ.get("PYTHONWARNINGS"):
        sys.warnoptions[:] = told.split(",")
        warnings._processoptions(sys.warnoptions)  # type: ignore[attr-defined]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        run(first, rest)
    except SystemExit as ended:
        if type(ended.code) not in (int, type(None)):
            raise  # the interpreter prints it
        end(ended.code or 0)
    end(0)


def set_streams() -> None:
    """Standard streams as they are made at a start."""
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        old = getattr(sys, f"__{name}__")
        buffer: Any = open(descriptor, f"{mode}b", 0 if at_once and mode == "w" else -1, closefd=False)  # noqa: SIM115
        getattr(buffer, "raw", buffer).name = f"<{name}>"
        lines = not at_once and (descriptor == 2 or buffer.isatty())
        new = io.TextIOWrapper(buffer, old.encoding, old.errors, line_buffering=lines, write_through=at_once)
        new.mode = mode
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def run(first: str, rest: list[str]) -> None:
    """As the interpreter would, in a `__main__` of its own."""
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    if first == "-m":
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
    elif first == "-c":
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        main.__file__ = first
        exec(compile(Path(first).read_bytes(), first, "exec"), main.__dict__)


def end(status: int) -> None:
    """Do what an interpreter does when it ends; it does it itself if what was printed does not go out."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if threading.active_count() == 1:  # else somebody may still use it
        vars(sys.modules["__main__"]).clear()
        gc.collect()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except OSError:
        sys.exit(status)
    os._exit(status & 0xFF)


def template() -> None:
    """Import, fork, and in a child go on as what was ordered."""
    if "TESTS_LINE_COVERAGE" in os.environ:
        import_module("line_coverage").begin()  # which lies beside us
    sys.path.pop(0)
    paths = list(sys.path)
    # Nobody's Ctrl-C is meant for us; what is sent to a child that is not ready waits until it is.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    for name in (*COMMANDS, *WHAT_THEY_IMPORT):
        with suppress(ModuleNotFoundError):  # the framework is tested without the reference application, too
            import_module(name)
    gc.collect()
    gc.freeze()
    become(serve(socket.socket(fileno=int(sys.argv[1]))), paths)


if __name__ == "__main__":
    template()
