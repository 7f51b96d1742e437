"""`actionbus serve` as a process."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from tests import processes
from tests.helpers import TOOL
from tests.waiting import PATIENCE_S, eventually


class Served:
    """A server process, and a token for it."""

    def __init__(
        self, application: str, url: URL, log: Path, token: str = "", more: Sequence[str] = (), **env: str
    ) -> None:
        self.token = token
        env = (
            os.environ
            | {
                "ACTIONBUS_APP": application,
                "ACTIONBUS_DATABASE_URL": url.render_as_string(hide_password=False),
                "ACTIONBUS_ELASTICSEARCH_URL": "embedded",
            }
            | env
        )
        options = [] if token else ["--authenticate", "none"]
        self.log = log
        with log.open("wb") as out:
            self.process = processes.Popen(
                [*TOOL, "serve", "--port", "0", "--threads", "4", *options, *more], env=env, stdout=out, stderr=out
            )
        self.port = int(eventually(self._told_port, log.read_text))

    def _told_port(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"serving http://127\.0\.0\.1:(\d+)", self.log.read_text())
        return found[1] if found else None

    def request(self, method: str, path: str, body: Any = None, timeout: float = PATIENCE_S) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        told = response.read()
        connection.close()
        return response.status, json.loads(told) if told else None

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
