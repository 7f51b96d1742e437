"""`actionbus` and `python` for shells under test: what they ask for is forked from the template (`tests/processes.py`).

Each is a script that starts an interpreter without `site`, hands over what it was given, and is from then on only where
signals arrive and a status is waited for.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.processes import Popen
from tests.template import PACKET

SHIM = """#!{python} -IS
import _signal as signal, _socket as socket, array, os, sys
here = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
here.connect({address!r})
# A shell has what it starts in the background ignore Ctrl-C.
kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
waiting = {{each for each in kinds if signal.getsignal(each) != signal.SIG_IGN}}
signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
words = [os.getcwd(), str(len(sys.argv)), {program!r}, *sys.argv[1:]]
said = chr(0).join([*words, *map("=".join, os.environ.items())])
here.sendmsg([os.fsencode(said)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
child = int(here.recv(99))
for each in waiting:
    signal.signal(each, lambda number, _: os.kill(child, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, waiting)
status = int(here.recv(99))
if status < 0:
    if -status in waiting:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@contextlib.contextmanager
def forking(*names: str) -> Iterator[str]:
    """A folder for the front of `PATH`, in which these commands are; what they have left running is ended with it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        address = f"{folder}/socket"
        listening.bind(address)
        listening.listen(64)
        for name in names:
            program = sys.executable if name == "python" else str(Path(sys.executable).with_name(name))
            shim = Path(folder, name)
            shim.write_text(SHIM.format(python=sys.executable, address=address, program=program))
            shim.chmod(0o700)
        running: list[Popen[bytes]] = []
        threading.Thread(target=accept, args=(listening, running), daemon=True).start()
        try:
            yield folder
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for process in running:
                process.kill()
                process.wait()


def accept(listening: socket.socket, running: list[Popen[bytes]]) -> None:
    """Serve each shim in a thread of its own, until nobody listens."""
    with contextlib.suppress(OSError):
        while True:
            shim, _ = listening.accept()
            threading.Thread(target=serve, args=(shim, running), daemon=True).start()


def serve(shim: socket.socket, running: list[Popen[bytes]]) -> None:
    """Start what it asks for; tell the pid, and the status when it has ended."""
    with shim:
        said, files, _, _ = socket.recv_fds(shim, PACKET, 3)
        cwd, count, *rest = os.fsdecode(said).split("\0")
        command, variables = rest[: int(count)], rest[int(count) :]
        env = dict(each.split("=", 1) for each in variables)
        process = Popen(command, cwd=cwd, env=env, stdin=files[0], stdout=files[1], stderr=files[2])
        for each in files:
            os.close(each)
        running.append(process)
        # A shim that was killed hears nothing.
        with contextlib.suppress(OSError):
            shim.send(str(process.pid).encode())
            shim.send(str(process.wait()).encode())
