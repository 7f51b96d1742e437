"""`Popen` and `run` as of `subprocess`, for commands of ours: the imports, most of what a start costs, are made once.

A child is forked from a template (`tests/template.py`), in a process of its own with the pid, parent, session, files and
environment that a start would give it, and runs the same code. What a template cannot give it (options of the
interpreter or its variables, what runs before an `exec`) is started as ever, and so is whatever asks `subprocess` itself:
tests of imports, of what is not installed, of files that hide modules.
"""

from __future__ import annotations

import atexit
import inspect
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, AnyStr

from tests.template import CLONE, PACKET

UNDERSTOOD = {"PYTHONPATH", "PYTHONWARNINGS", "PYTHONBREAKPOINT", "PYTHONUNBUFFERED"}
"""Variables of the interpreter that a child can be given; so is every one that is not the interpreter's."""

PLAIN = {
    "preexec_fn": None,
    "shell": False,
    "pass_fds": (),
    "gid": None,
    "gids": None,
    "uid": None,
    "process_group": -1,
    "restore_signals": True,
    "executable": None,
    "close_fds": True,
}
"""What can be asked of a start, and what of it a template does."""

CONTEXT = multiprocessing.get_context("forkserver")
"""Of processes that run functions of the tests. Its server imports once what they import."""
CONTEXT.set_forkserver_preload(["tests.conftest", "tests.replay.conftest", "tests.core.history.hard"])

_execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_signature = inspect.signature(_execute)


class Template:
    """The process that is forked from, of one process that runs tests."""

    def __init__(self) -> None:
        self.env = {name: value for name, value in os.environ.items() if name not in UNDERSTOOD}
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._owner = os.getpid()
        script = Path(__file__).with_name("template.py")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, script, str(theirs.fileno())], env=self.env, pass_fds=[theirs.fileno()]
            )
        atexit.register(self.close)

    def is_ours(self) -> bool:
        """Not its parent's: a process that the tests have forked has none."""
        return self._owner == os.getpid()

    def fork(self, files: list[int], **order: Any) -> int:
        """The child's pid."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(order).encode()], files)
            if not (told := self._socket.recv(PACKET)):
                raise RuntimeError("the template has died; it has said why")
        return int(told)

    def close(self) -> None:
        """End it."""
        if self.is_ours():
            self._socket.close()
            self._process.wait()


_templates: list[Template] = []
_beginning = threading.Lock()


def template() -> Template:
    """Made when it is first needed."""
    with _beginning:
        if not (_templates and _templates[0].is_ours()):
            _templates[:] = [Template()]
        return _templates[0]


def arguments_of(command: list[str], env: dict[str, str]) -> list[str] | None:
    """What a template is to run, if it can."""
    program, *rest = [os.fspath(each) for each in command]
    if not CLONE or for_interpreters(env) != for_interpreters(template().env):
        return None
    if program == sys.executable and rest and (rest[0] in ("-c", "-m") or not rest[0].startswith("-")):
        return rest
    return [program, *rest] if Path(program) == Path(sys.executable).with_name("actionbus") else None


def for_interpreters(env: dict[str, str]) -> dict[str, str]:
    """What an interpreter reads when it starts, and only then."""
    read = ("PYTHON", "LC_", "LANG", "LD_")
    return {name: env[name] for name in env if name.startswith(read) and name not in UNDERSTOOD}


class Popen(subprocess.Popen[AnyStr]):
    """`subprocess.Popen`, of a child that is forked from the template where that is the same."""

    def _execute_child(self, *given: Any) -> None:
        asked = _signature.bind(self, *given).arguments
        env = dict(os.environ if asked["env"] is None else asked["env"])
        cwd = asked["cwd"] or "."
        arguments = arguments_of(asked["args"], env) if isinstance(asked["args"], list) else None
        plain = all(asked.get(name, value) == value for name, value in PLAIN.items())
        if arguments is None or not plain or not Path(cwd).is_dir():
            _execute(self, *given)
            return
        theirs = [asked["p2cread"], asked["c2pwrite"], asked["errwrite"]]
        self.pid = template().fork(
            [descriptor if descriptor != -1 else number for number, descriptor in enumerate(theirs)],
            arguments=arguments,
            env=env,
            cwd=os.path.abspath(cwd),
            session=asked["start_new_session"],
            umask=asked["umask"],
        )
        self._child_created = True
        self._close_pipe_fds(
            *(asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
        )  # type: ignore[attr-defined]


def run(
    command: list[Any],
    *,
    input: Any = None,
    capture_output: bool = False,
    check: bool = False,
    timeout: float | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run`, by way of this `Popen`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Popen(command, **options) as process:
        try:
            told, error = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, told, error)
    if check:
        done.check_returncode()
    return done
