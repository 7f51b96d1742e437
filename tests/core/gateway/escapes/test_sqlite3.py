"""Sqlite3's own connection ends no action's transaction, and an application's authorizer is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from actionbus import Bus, Misuse, outside
from tests.conftest import prepared
from tests.core.gateway.escapes.trying import Gone, add, driver, ids, last, run
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, Mailer, Repo, checkpoint, make_application

SQLITE_COMMITS: dict[str, Callable[[Any], Any]] = {
    "commit()": lambda d: d.commit(),
    "rollback()": lambda d: d.rollback(),
    "COMMIT": lambda d: d.execute("COMMIT"),
    "COMMIT of a cursor": lambda d: d.cursor().execute("/* why */ END"),
    "executescript": lambda d: d.executescript("CREATE INDEX IF NOT EXISTS by_name ON accounts (name)"),
    "executescript, later": lambda d: d.executescript("SELECT 1; COMMIT"),
    "with": lambda d: d.__exit__(None, None, None),
    "isolation_level": lambda d: setattr(d, "isolation_level", None),
    "the gateway's savepoint": lambda d: d.execute("RELEASE actionbus_begun"),
    "back to the gateway's savepoint": lambda d: d.execute("ROLLBACK TO actionbus_begun"),
}


@pytest.mark.parametrize("place", ["handler", "caught", "nested", "clean-up", "outcome of an error"])
@pytest.mark.parametrize("way", SQLITE_COMMITS)
def test_sqlites_driver_is_refused_the_end_of_the_transaction(
    sqlite_url: URL, monkeypatch: pytest.MonkeyPatch, way: str, place: str
) -> None:
    """Whoever says it and wherever: nothing stays of an action that failed, and all of one that went on."""
    prepared(sqlite_url)

    def end(session: Session) -> None:
        SQLITE_COMMITS[way](session.connection().connection.dbapi_connection)

    def repo(session: Session) -> Iterator[Repo]:
        yield Repo(session)
        if place == "clean-up":
            end(session)

    def attempt(handler: Any) -> None:
        add(handler, 1)
        if place == "caught":
            with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
                end(handler.session)
        elif place == "nested":
            monkeypatch.setattr(CallBack, "function", lambda inner: end(inner.session))
            handler.runner.execute("call_back")
        elif place == "outcome of an error":
            try:
                end(handler.session)
            finally:
                raise Gone
        elif place == "handler":
            end(handler.session)

    dependencies = {"repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)}
    with Bus(make_application(dependencies=dependencies), sqlite_url) as bus:
        if place == "clean-up":
            with pytest.raises(Misuse, match="begin_nested"):
                bus.execute("open_account", {"id": 1, "name": "one"})
        else:
            error = run(bus, monkeypatch, attempt)
            assert error is None if place == "caught" else isinstance(error, Misuse), error
            assert place == "caught" or "begin_nested" in str(error)
        assert ids(bus) == ([1] if place == "caught" else [])
        assert last(bus).status == ("succeeded" if place == "caught" else "failed")


def test_after_sqlalchemy_rolled_back_sqlites_driver_commits_nothing_on_its_own(
    sqlite_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(sqlite_url)

    def go_on(handler: Any) -> None:
        dbapi = driver(handler).dbapi_connection
        add(handler, 1)
        handler.session.add(Account(id=1, name="again"))
        with pytest.raises(IntegrityError):
            handler.session.flush()
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            dbapi.execute("INSERT INTO accounts VALUES (9, 'late', 0)")

    with Bus(make_application(), sqlite_url) as bus:
        assert isinstance(run(bus, monkeypatch, go_on), Misuse)
        assert (ids(bus), last(bus).status) == ([], "failed")


def test_an_applications_own_authorizer_is_kept(sqlite_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(sqlite_url)
    asked: list[int] = []

    def settle_in(dbapi: Any, _record: Any) -> None:
        dbapi.set_authorizer(lambda code, *_: asked.append(code) or sqlite3.SQLITE_OK)

    engine = create_engine(sqlite_url)
    event.listen(engine, "connect", settle_in)
    with engine.connect():
        pass  # so that there is a connection before there is a bus
    with Bus(make_application(), engine) as bus:
        asked.clear()
        assert run(bus, monkeypatch, lambda handler: add(handler, 1)) is None
        assert sqlite3.SQLITE_INSERT in asked
        error = run(bus, monkeypatch, lambda handler: driver(handler).commit())
        assert "was ended inside" in str(error)  # noticed, where the one authorizer that there can be is not ours
    engine.dispose()
