"""`actionbus serve` as a process: schemathesis against its OpenAPI document, slow and half-hearted clients, SIGTERM."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from actionbus.adapters.library.app import library
from actionbus.adapters.library.models import Base
from actionbus.adapters.library.tokens import issue
from tests import processes
from tests.adapters.http.served import Served
from tests.conftest import TORTURE, prepared
from tests.helpers import TOOL
from tests.servers import Redis
from tests.waiting import PATIENCE_S, eventually


@pytest.fixture
def library_url(url: URL) -> URL:
    """A database with the reference application's tables."""
    with Bus(library, url) as bus:
        bus.journal.create()
        Base.metadata.create_all(bus.engine)
    return url


@pytest.fixture
def served(library_url: URL, redis: Redis, tmp_path: Path) -> Iterator[Served]:
    with Bus(library, library_url) as bus:
        token = issue(bus, "ana")
    found = Served(
        "actionbus.adapters.library.app:library",
        library_url,
        tmp_path / "serve.log",
        token,
        ACTIONBUS_BROKER_URL=redis.url,
    )
    yield found
    found.close()


@pytest.fixture
def shop(sqlite_url: URL, tmp_path: Path) -> Iterator[Served]:
    prepared(sqlite_url)
    found = Served("tests.adapters.shop_app:app", sqlite_url, tmp_path / "serve.log")
    yield found
    found.close()


@pytest.fixture(scope="module")
def lasting_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for many tests: what the clients of one do, those of the next are not to notice."""
    folder = tmp_path_factory.mktemp("shop")
    url = make_url(f"sqlite:///{folder / 'shop.db'}")
    prepared(url)
    found = Served("tests.adapters.shop_app:app", url, folder / "serve.log")
    yield found
    found.close()


ALIKE = "^/actions/((move|remove|rename|tag|untag)_asset|(remove|rename|unshare)_kit|revoke_token)$"
"""Actions whose arguments are of kinds that others have too, which are all read and answered by the same code."""
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "422"]

# No schema tells a cursor that was given from one that was not, nor that a page is not asked for beside one.
[[operations]]
include-path = ["/search/{projection}", "/history/state/{table}"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422"]
"""


@pytest.mark.early
@pytest.mark.timeout(900)
@pytest.mark.parametrize("url", ["sqlite", "postgresql"] if TORTURE else ["postgresql"], indirect=True)
def test_every_answer_conforms_to_the_document(served: Served, library_url: URL, tmp_path: Path) -> None:
    """Rules beyond JSON Schema (such as "you have a kit of that name") are 422, which valid data may meet."""
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    env = os.environ | {
        "ACTIONBUS_DATABASE_URL": library_url.render_as_string(hide_password=False),
        "ACTIONBUS_ELASTICSEARCH_URL": "embedded",
    }
    feeding = processes.Popen([*TOOL, "projections", "run"], env=env, stdout=subprocess.DEVNULL)
    tool = Path(sys.executable).with_name("st")
    # One worker: Python 3.11's ast.parse fails now and then when two threads of the tool use it.
    command = [
        tool,
        "run",
        f"http://127.0.0.1:{served.port}/openapi.json",
        "--header",
        f"Authorization: Bearer {served.token}",
        "--checks",
        "all",
        "--phases",
        "examples,coverage,fuzzing,stateful",
        "--no-color",
        "--workers",
        "1",
        *(
            ["--max-examples", "300"]
            if TORTURE
            else ["--max-examples", "2", "--seed", "1", "--exclude-path-regex", ALIKE]
        ),
    ]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    finally:
        feeding.kill()
        feeding.wait()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert served.request("GET", "/health/ready")[0] == 200
    assert " 500 " not in served.log.read_text()


def test_slow_bodies_hold_nobody_up(lasting_shop: Served) -> None:
    """Many more slow clients than threads: others are served all the while."""
    slow = [lasting_shop.socket() for _ in range(40)]
    for each in slow:
        each.sendall(b"POST /actions/deposit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        each.sendall(b"Content-Length: 1000\r\n\r\n{")
    assert lasting_shop.request("POST", "/actions/open_account", {"id": 1, "name": "one"})[0] == 200
    assert select.select(slow, [], [], 0)[0] == [], "all of them are still there, unanswered"
    for each in slow:
        each.sendall(b" ")
        each.close()
    assert lasting_shop.request("GET", "/health/ready")[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 2_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 50_000_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"POST /actions/deposit HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /actions/deposit HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n",
        b"POST /actions/deposit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nZZ\r\n",
        b"POST /actions/deposit HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_what_is_not_http_gets_a_4xx_or_nothing(lasting_shop: Served, sent: bytes) -> None:
    answer = answer_to(lasting_shop, sent)
    lines = [line for line in answer.split(b"\r\n") if line.startswith(b"HTTP/")]
    assert all(int(line.split()[1]) in range(100, 500) for line in lines), answer[:200]
    assert lasting_shop.request("GET", "/health/live")[0] == 200


def answer_to(shop: Served, sent: bytes) -> bytes:
    """All that comes back. The server may answer, close and so reset the connection before it was sent everything."""
    answer = b""
    with shop.socket() as client, contextlib.suppress(ConnectionError):
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        except OSError as error:  # shutdown() of what the other side has reset says ENOTCONN
            assert error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN), error
        while received := client.recv(65_536):
            answer += received
    return answer


def test_sigterm_answers_what_was_begun(shop: Served, tmp_path: Path) -> None:
    got: list[Any] = []
    may_end = tmp_path / "may.end"
    asking = threading.Thread(target=lambda: got.append(shop.request("POST", "/actions/hold", {"file": str(may_end)})))
    asking.start()
    idle = shop.socket()
    eventually(may_end.with_suffix(".begun").exists, "the action has begun")
    shop.process.send_signal(signal.SIGTERM)
    eventually(lambda: refused(shop), "the server takes no more connections")
    assert got == []
    may_end.touch()
    asking.join()
    assert got[0][0] == 200
    assert got[0][1]["result"] == {"held": True}
    assert shop.process.wait(PATIENCE_S) == 0
    idle.close()


def refused(shop: Served) -> bool:
    try:
        shop.socket().close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_port_that_is_taken_is_told(shop: Served, sqlite_url: URL) -> None:
    env = os.environ | {"ACTIONBUS_DATABASE_URL": str(sqlite_url), "ACTIONBUS_APP": "tests.adapters.shop_app:app"}
    command = [*TOOL, "serve", "--authenticate", "none", "--port", str(shop.port)]
    done = processes.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "choose another --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_asks_must_be_said(sqlite_url: URL, shop: Served) -> None:
    env = os.environ | {"ACTIONBUS_DATABASE_URL": str(sqlite_url), "ACTIONBUS_APP": "tests.adapters.shop_app:app"}
    done = processes.run([*TOOL, "serve"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--authenticate" in done.stderr
