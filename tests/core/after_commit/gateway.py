"""A payment provider: an HTTP server in a process of its own, whose ledger is a file; and a client of it.

It charges once per key. What may go wrong between the two does, by chance: it answers 500 before or after it has charged,
hangs up without an answer, never answers, or is asked twice.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

CONTEXT = multiprocessing.get_context("fork")
FAULTS = ("500 before", "500 after", "hangs up", "never answers")
_TIMEOUT_S = 0.3
"""Until the client gives up one that never answers."""


class Gateway:
    """The provider. Killed, it comes back on the same port with what its ledger holds."""

    def __init__(self, ledger: Path, trouble: float, seed: int) -> None:
        self._ledger, self._trouble, self._seed = ledger, trouble, seed
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        self._process: Any = None
        self.start()

    def start(self) -> None:
        """Serve."""
        self._seed += 1
        self._process = CONTEXT.Process(target=_serve, args=(self._socket, self._ledger, self._trouble, self._seed))
        self._process.start()

    def kill(self) -> None:
        """As a machine that loses power."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()

    def close(self) -> None:
        """For good."""
        self.kill()
        self._socket.close()

    def charges(self) -> list[tuple[int, int]]:
        """Orders and cents, one for each charge."""
        return sorted((order, cents) for order, cents in _read(self._ledger).values())


def _read(ledger: Path) -> dict[str, tuple[int, int]]:
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    entries = [json.loads(line) for line in lines]
    assert len({key for key, _, _ in entries}) == len(entries), "the provider itself charges once per key"
    return {key: (order, cents) for key, order, cents in entries}


def _serve(listening: socket.socket, ledger: Path, trouble: float, seed: int) -> None:
    chance, lock = random.Random(seed), Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                fault = chance.choice(FAULTS) if chance.random() < trouble else None
                if fault != "500 before":
                    self._charge(self.headers["Idempotency-Key"], asked["order"], asked["cents"])
            self.close_connection = True
            if fault == "hangs up":
                return
            if fault == "never answers":
                self.connection.recv(1)  # until the client goes
                return
            body = b'{"charged": true}'
            self.send_response(500 if fault else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _charge(self, key: str, order: int, cents: int) -> None:
            if key not in _read(ledger):
                with ledger.open("a") as file:
                    file.write(json.dumps([key, order, cents]) + "\n")

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.server_name, server.server_port = "127.0.0.1", listening.getsockname()[1]
    server.serve_forever(poll_interval=0.05)


class Payments:
    """The client, as a library of the provider's would be."""

    port = 0
    twice = 0.2
    """How often it asks again though it was answered, as what lies between the two may."""

    def charge(self, order: int, cents: int, *, key: str = "") -> dict[str, Any]:
        """Charge an order. Raises OSError for whatever is no answer."""
        answer = self._asked(order, cents, key)
        if random.random() < self.twice:
            answer = self._asked(order, cents, key)
        return answer

    def _asked(self, order: int, cents: int, key: str) -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        try:
            body = json.dumps({"order": order, "cents": cents})
            connection.request("POST", "/charges", body, {"Idempotency-Key": key})
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"the provider answered {answer.status}")
            answered: dict[str, Any] = json.loads(answer.read())
            return answered
        except HTTPException as error:
            raise OSError(f"no answer: {error!r}") from error
        finally:
            connection.close()
