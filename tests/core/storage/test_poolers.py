"""PgBouncer, the real program: in session mode all works, in the others the first action is refused by name.

It is taken from the system, or from Debian's package, unpacked into a folder; elsewhere it cannot be had.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, JournalUnavailable
from tests.conftest import prepared, query
from tests.servers import Server
from tests.shop.app import make_application
from tests.waiting import eventually

PACKAGES = ("pgbouncer", "libevent-2.1-7", "libc-ares2")
Start = Callable[..., URL]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """The program, and what it has to find in its environment."""
    if found := shutil.which("pgbouncer"):
        return found, {}
    folder = tmp_path_factory.mktemp("pgbouncer")
    for each in folder.parents[:3]:
        each.chmod(0o755)
    folder.chmod(0o755)
    got = (
        shutil.which("apt-get")
        and shutil.which("dpkg")
        and subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, capture_output=True, check=False)
    )
    if not got or got.returncode:
        pytest.skip("neither pgbouncer nor Debian's package of it can be had here: install it to run this")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
    libraries = os.pathsep.join(map(str, (folder / "root/usr/lib").glob("*-linux-gnu")))
    return str(folder / "root/usr/sbin/pgbouncer"), {"LD_LIBRARY_PATH": libraries}


@pytest.fixture
def start(server: Server, postgres_url: URL, tmp_path: Path, program: tuple[str, dict[str, str]]) -> Iterator[Start]:
    """Starts it before a database with the shop; the URL that leads through it."""
    if not server.can_be_killed:
        pytest.skip("the server given is not the tests' own: how PgBouncer may reach it is not known")
    prepared(postgres_url)
    started: list[subprocess.Popen[bytes]] = []

    def begin(mode: str, *settings: str) -> URL:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        lines = [
            "[databases]",
            f"{postgres_url.database} = user=postgres host={postgres_url.query['host']}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {port}",
            "unix_socket_dir =",
            "auth_type = any",
            f"pool_mode = {mode}",
            "client_login_timeout = 10",
            *settings,
        ]
        tmp_path.chmod(0o755)
        for each in tmp_path.parents[:3]:
            each.chmod(0o755)
        file = tmp_path / f"{port}.ini"
        file.write_text("\n".join(lines))
        user = server._own.system_user if os.getuid() == 0 else None
        started.append(
            subprocess.Popen([program[0], str(file)], env=os.environ | program[1], user=user, stderr=subprocess.DEVNULL)
        )
        url = URL.create("postgresql+psycopg2", "postgres", None, "127.0.0.1", port, postgres_url.database)
        eventually(lambda: _answers(port), "PgBouncer answers")
        return url

    yield begin
    for each in started:
        each.terminate()
        each.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("settings", [(), ("default_pool_size = 1",)], ids=["many sessions", "one session"])
def test_session_mode_works(start: Start, settings: tuple[str, ...]) -> None:
    url = start("session", *settings)
    with Bus(make_application(), url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        given = bus.runner().execute_many([("deposit", {"id": 1}) for _ in range(5)])
        assert [each.status for each in given] == ["succeeded"] * 5


@pytest.mark.parametrize(
    "settings",
    [(), ("default_pool_size = 1",), ("server_round_robin = 1",), ("server_round_robin = 1", "min_pool_size = 3")],
    ids=["last first", "one session", "in turn", "in turn of three"],
)
def test_transaction_mode_is_refused_by_name_before_anything_is_written(
    start: Start, postgres_url: URL, settings: tuple[str, ...]
) -> None:
    url = start("transaction", *settings)
    for _ in range(2):  # also where it is warm
        with Bus(make_application(), url) as bus, pytest.raises(JournalUnavailable, match="pool_mode = session"):
            bus.execute("open_account", {"id": 1, "name": "a"})
    assert query(postgres_url, "SELECT count(*) FROM journal") == [(0,)]
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    assert query(postgres_url, locks) == [(0,)]
