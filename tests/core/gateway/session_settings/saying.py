"""How tests of session settings say something to the database: through the session or past it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg2.extras import DictCursor
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from actionbus import Bus
from tests.conftest import prepared
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application

Say = Callable[[Any, str], Any]
WAYS: dict[str, Say] = {
    "text": lambda h, sql: h.session.execute(text(sql)),
    "exec_driver_sql": lambda h, sql: h.session.connection().exec_driver_sql(sql),
    "driver": lambda h, sql: h.session.connection().connection.cursor().execute(sql),
    "another class": lambda h, sql: another_cursor(driver(h)).execute(sql),
}


def driver(handler: Any) -> Any:
    return handler.session.connection().connection.dbapi_connection


def another_cursor(dbapi: Any) -> Any:
    if isinstance(dbapi, sqlite3.Connection):
        return sqlite3.Cursor(dbapi)
    return dbapi.cursor(cursor_factory=DictCursor)


def one_connection(url: URL) -> Iterator[Bus]:
    prepared(url)
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=2)
    with Bus(make_application(), engine) as bus:
        yield bus
    engine.dispose()


def run(bus: Bus, monkeypatch: pytest.MonkeyPatch, function: Callable[[Any], Any]) -> Any:
    monkeypatch.setattr(CallBack, "function", function)
    return bus.execute("call_back")
