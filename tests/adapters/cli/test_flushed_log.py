"""`actionbus log -f` prints nothing that a crash of the PostgreSQL server takes back; see tests/core/storage/test_flushed.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from sqlalchemy.engine import URL

from tests.conftest import prepared
from tests.core.storage.lazy import LAZY, append, crash, there
from tests.helpers import ROOT
from tests.servers import Server


def test_what_log_follow_printed_is_still_there_after_a_crash() -> None:
    server = Server(LAZY)
    try:
        url = server.database()
        prepared(url)
        append(url, synchronous=True)
        append(url, synchronous=False)
        printed = followed(url, 2)
        crash(server)
        assert [each for each in printed if each not in there(url)] == []
    finally:
        server.close()


def followed(url: URL, lines: int) -> list[tuple[int, str]]:
    """The first lines that the command prints."""
    command = [sys.executable, "-m", "actionbus", "log", "--after", "0", "--submitted", "--follow", "--json"]
    env = os.environ | {
        "ACTIONBUS_APP": "tests.adapters.shop_app:app",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "ACTIONBUS_DATABASE_URL": url.render_as_string(hide_password=False),
    }
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = [json.loads(process.stdout.readline()) for _ in range(lines)]
        process.kill()
    return [(line["position"], line["action_id"]) for line in told]
