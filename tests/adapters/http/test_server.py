"""`actionbus serve` under clients who drip, crowd in, or send what is costly to read; and its access log."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from sqlalchemy.engine import URL

from tests.adapters.http.served import Served
from tests.conftest import prepared
from tests.waiting import PATIENCE_S, eventually

HEAD = b"POST /actions/deposit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
DRIPS: dict[str, tuple[bytes, bytes]] = {
    # what is sent at first, and then again and again
    "headers": (b"GET /actions HTTP/1.1\r\nHost: x\r\nX: ", b"a"),
    "a body": (HEAD + b"Content-Length: 1000\r\n\r\n", b" "),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "a request after another": (b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /actions HTTP/1.1\r\nX: ", b"a"),
}


Start = Callable[..., Served]


@pytest.fixture
def start(sqlite_url: URL, tmp_path: Path) -> Iterator[Start]:
    """Starts `actionbus serve` for the shop, with further options."""
    prepared(sqlite_url)
    made: list[Served] = []

    def begin(*options: str, **env: str) -> Served:
        log = tmp_path / f"serve{len(made)}.log"
        made.append(Served("tests.adapters.shop_app:app", sqlite_url, log, more=options, **env))
        return made[-1]

    yield begin
    for each in made:
        each.close()


def drip_until_closed(client: socket.socket, drop: bytes) -> bytes:
    """Send a drop now and then, until the server has had enough; what it said."""
    client.settimeout(0.2)
    heard = b""
    for _ in range(400):
        try:
            client.sendall(drop)
            if not (piece := client.recv(4096)):
                return heard
            heard += piece
        except TimeoutError:
            continue
        except OSError:
            return heard
    raise AssertionError("the server goes on listening to a client who drips")


@pytest.mark.parametrize("what", DRIPS)
def test_a_request_has_one_deadline_however_slowly_it_drips(start: Start, what: str) -> None:
    served = start("--patience", "2")
    first, drop = DRIPS[what]
    with served.socket() as client:
        client.sendall(first)
        heard = drip_until_closed(client, drop)
    assert b" 408 " in heard
    assert " 408 in " in served.log.read_text(), "the access log has it"
    assert served.request("GET", "/health/ready")[0] == 200


@pytest.mark.parametrize("what", DRIPS)
def test_who_stalls_is_answered_too(start: Start, what: str) -> None:
    """Without a word for as long as a request may take."""
    served = start("--patience", "1")
    with served.socket() as client:
        client.sendall(b"".join(DRIPS[what]))
        heard = b""
        while piece := client.recv(4096):
            heard += piece
    assert b" 408 " in heard
    assert " 408 in " in served.log.read_text(), "the access log has it"


LEAVING = """
import sys
from flask import Flask
from tests.shop.app import checkpoint, make_application, repo
from actionbus import outside


class Leaving:
    def send(self, to, text):
        sys.exit(to)


app = make_application(dependencies={"repo": repo, "checkpoint": checkpoint, "mailer": outside(Leaving)})
flask_app = Flask("leaving")
flask_app.get("/leave")(sys.exit)
"""


def leave(served: Served, tmp_path: Path, ask: Callable[[], int]) -> None:
    """Ask more often than there are threads, keeping the connections; then the server stops at once."""
    for _ in range(6):
        assert ask() == 500
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(PATIENCE_S) == 0
    assert "cut off" not in served.log.read_text()
    assert served.log.read_text().count(" 500 in ") == 6


def test_an_action_that_exits_is_answered_and_keeps_no_place(start: Start, tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING)
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    served = start(ACTIONBUS_APP="leaving:app", PYTHONPATH=path)
    leave(served, tmp_path, lambda: served.request("POST", "/actions/notify", {"to": "x"})[0])
    assert "SystemExit: x" in served.log.read_text()


def test_an_application_that_exits_is_answered_and_keeps_no_place(start: Start, tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING)
    served = start(
        "--wsgi", "leaving:flask_app", PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    )

    def ask() -> int:
        with served.socket() as client:
            client.sendall(b"GET /leave HTTP/1.1\r\nHost: x\r\n\r\n")
            return int(client.recv(4096).split(b" ")[1])

    leave(served, tmp_path, ask)


def test_an_answer_that_is_not_taken_is_given_up(start: Start) -> None:
    """A client who asks for megabytes and reads none of them is let go of."""
    served = start("--patience", "2")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        mine = client.getsockname()[1]

        def is_there() -> bool:
            found = psutil.Process(served.process.pid).net_connections()
            return any(each.raddr and each.raddr.port == mine for each in found)

        wait_until(is_there)
        wait_until(lambda: not is_there())
    assert served.request("GET", "/health/live")[0] == 200


def test_who_asks_for_more_and_takes_nothing_holds_no_thread(start: Start) -> None:
    served = start("--patience", "600", "--threads", "1")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 60)
        wait_until(lambda: "swagger-ui-bundle.js 200" in served.log.read_text())
        assert served.request("GET", "/actions")[0] == 200


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        threading.Event().wait(0.1)
    raise AssertionError("it never comes")


def test_more_slow_clients_than_places_keep_nobody_out(start: Start) -> None:
    """Twice as many as there are places: the one longest without being served makes room for the next."""
    served = start()
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (1200, 1200))
    slow: list[socket.socket] = []
    try:
        for _ in range(1_100):
            each = served.socket()
            each.sendall(b"GET / HTTP/1.1\r\nX: ")
            slow.append(each)
        for _ in range(5):
            assert served.request("GET", "/health/live")[0] == 200
            assert served.request("GET", "/health/ready")[0] == 200
    finally:
        for each in slow:
            each.close()


def test_liveness_is_answered_while_every_thread_is_busy(start: Start, tmp_path: Path) -> None:
    """One thread, an action that holds it until it is told to end, and two that wait for it."""
    served = start("--threads", "1")
    files = [tmp_path / f"end{number}" for number in range(3)]

    def begun() -> int:
        return sum(file.with_suffix(".begun").exists() for file in files)

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(served.request, "POST", "/actions/hold", {"file": str(file)}) for file in files]
        try:
            eventually(begun, "an action has begun")
            for _ in range(5):
                assert served.request("GET", "/health/live") == (200, {"status": "live"})
            assert begun() == 1
        finally:
            for file in files:
                file.touch()
    assert [each.result()[0] for each in asking] == [200] * 3


def test_liveness_asks_no_application(sqlite_url: URL, tmp_path: Path, start: Start) -> None:
    """Its hooks may wait for the database; where the API is mounted elsewhere, so is liveness."""
    (tmp_path / "mine.py").write_text(
        "import threading\n\nfrom flask import Flask\n\nfrom actionbus.flask import ActionBus\n"
        "from tests.adapters.shop_app import app as application\n\n"
        "flask_app = Flask('mine')\n"
        f"flask_app.config.update(ACTIONBUS_DATABASE_URL={str(sqlite_url)!r}, ACTIONBUS_URL_PREFIX='/api')\n"
        "ActionBus(flask_app, application=application)\n\n\n"
        "@flask_app.before_request\ndef hang():\n    threading.Event().wait()\n"
    )
    served = start("--wsgi", "mine:flask_app", PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert served.request("GET", "/api/health/live") == (200, {"status": "live"})
    with served.socket() as client:
        client.sendall(b"HEAD /api/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        heard = b""
        while piece := client.recv(4096):
            heard += piece
    assert heard.startswith(b"HTTP/1.1 200 ")
    assert heard.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 5_000 + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 3_000_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 3_000_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 3_000_000,
    ],
    ids=["headers", "the size of a chunk", "an extension", "a trailer"],
)
def test_what_would_be_searched_anew_with_every_piece_is_refused_while_it_is_short(start: Start, sent: bytes) -> None:
    served = start()
    with served.socket() as client:
        heard = b""
        try:
            client.sendall(sent)
        except OSError:
            pass  # it was refused before all of it was sent
        try:
            while piece := client.recv(4096):
                heard += piece
        except OSError:
            pass
    assert heard == b"" or b" 400 " in heard.split(b"\r\n")[0]
    assert " 400 in " in served.log.read_text()
    assert served.request("GET", "/health/live")[0] == 200


def test_every_request_leaves_a_line_and_no_secret(start: Start, tmp_path: Path) -> None:
    (tmp_path / "asking.py").write_text(
        "def who(request):\n    return request.headers.get('Authorization', '').partition('Bearer t-')[2] or None\n"
    )
    served = start(
        "--authenticate",
        "asking:who",
        ACTIONBUS_LOG_FORMAT="json",
        PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    )
    served.token = "t-ana"
    served.request("POST", "/actions/open_account", {"id": 1, "name": "private-name"})
    served.request("GET", "/actions?q=private-query")
    served.token = "wrong-token"
    served.request("GET", "/actions")
    served.request("POST", "/actions/a%0Ab%1B[2J", {})
    served.request("GET", "/health/live")
    text = served.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    told = [
        (line["method"], line["path"], line["http_status"], line.get("actor"))
        for line in lines
        if line["logger"] == "actionbus.access"
    ]
    assert told == [
        ("POST", "/actions/open_account", 200, "ana"),
        ("GET", "/actions", 200, "ana"),
        ("GET", "/actions", 401, None),
        ("POST", "'/actions/a\\nb\\x1b[2J'", 401, None),
    ]
    for secret in ("private-name", "private-query", "wrong-token", "t-ana"):
        assert secret not in text
