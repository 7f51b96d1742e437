"""Makes engines from URLs and chooses the backend for one; called by Bus and by adapters.database."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from actionbus.core.errors import ConfigurationError
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.postgresql import PostgreSQL
from actionbus.core.storage.sqlite import SQLite
from actionbus.core.storage.sqlite_url import file_of, is_uri

_SUPPORTED: Final = ("postgresql+psycopg2", "sqlite", "sqlite+pysqlite")


def make_engine(url: str | URL) -> Engine:
    """An engine for `postgresql://`, `postgresql+psycopg2://` or `sqlite://`. Raises ConfigurationError."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise ConfigurationError(
            ["the database URL cannot be read; expected postgresql+psycopg2://user@host/name or sqlite:///file.db"]
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg2")
    if parsed.drivername not in _SUPPORTED:
        raise ConfigurationError([f"{parsed.drivername} is not supported; use postgresql+psycopg2://… or sqlite:///…"])
    options: dict[str, Any] = {}
    if parsed.drivername.startswith("postgresql") and "client_encoding" not in parsed.query:
        # Whatever a role's default is: what is Unicode in Python goes through.
        options["connect_args"] = {"client_encoding": "utf8"}
    if parsed.drivername.startswith("sqlite"):
        options["connect_args"] = {"timeout": 30, "check_same_thread": False}
        if (parsed.database or "").startswith("file:") and not is_uri(parsed):
            raise ConfigurationError(
                [
                    f"{parsed.database} would be taken for a file of that very name; to be read as a URI it needs "
                    f"uri=true: sqlite:///{parsed.database}?uri=true, with what other parameters you have"
                ]
            )
        if file_of(parsed) is None:
            options["poolclass"] = StaticPool
    return create_engine(parsed, **options)


def backend_for(engine: Engine, schema: str | None, *, own_engine: bool) -> Backend:
    """The backend of an engine. Raises ConfigurationError for a database, or a pool, that is not supported."""
    name, driver = engine.dialect.name, engine.dialect.driver
    if (name, driver) == ("postgresql", "psycopg2"):
        if isinstance(engine.pool, (StaticPool, SingletonThreadPool)):
            raise ConfigurationError(
                [
                    f"{type(engine.pool).__name__} hands out what an action holds already, so that others would write "
                    "in its transaction; make the engine without poolclass, or with NullPool"
                ]
            )
        return PostgreSQL(engine, schema, own_engine=own_engine)
    if (name, driver) == ("sqlite", "pysqlite"):
        return SQLite(engine, schema, own_engine=own_engine)
    raise ConfigurationError([f"{name}+{driver} is not supported; use postgresql+psycopg2://… or sqlite:///…"])
