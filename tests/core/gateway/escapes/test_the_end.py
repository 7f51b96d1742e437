"""What listens to a session's end, cleans up after the handler or outlives it writes nothing past the transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus import Bus, Misuse, outside
from tests.conftest import prepared
from tests.core.gateway.escapes.trying import Gone, add, driver, goes_on, ids, last, run
from tests.shop.app import Account, Mailer, Repo, checkpoint, make_application


@pytest.mark.parametrize("end", ["returns", "raises"])
@pytest.mark.parametrize("by", ["session", "connection"])
def test_who_listens_to_the_sessions_end_writes_nothing(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, by: str, end: str
) -> None:
    refused: list[BaseException] = []

    def attempt(handler: Any) -> None:
        add(handler, 1)
        session, connection = handler.session, handler.session.connection()

        def write(_session: Session, transaction: Any) -> None:
            if transaction.parent is None and not refused:
                try:
                    statement = text("INSERT INTO accounts (id, name, balance) VALUES (9, 'late', 0)")
                    (session if by == "session" else connection).execute(statement)
                except BaseException as error:
                    refused.append(error)
                    raise

        event.listen(session, "after_transaction_end", write)
        if end == "raises":
            raise Gone

    error = run(bus, monkeypatch, attempt)
    assert error is None if end == "returns" else isinstance(error, Gone)
    assert [type(each) for each in refused] == [Misuse]
    assert "comes too late" in str(refused[0])
    assert ids(bus) == ([1] if end == "returns" else [])
    assert last(bus).status == ("succeeded" if end == "returns" else "failed")
    assert "listens to the end of an action's session" in caplog.text
    goes_on(bus)


@pytest.mark.parametrize("way", ["connection", "pool"])
def test_a_connection_that_is_detached_is_closed(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    kept: list[Any] = []

    def detach(handler: Any) -> None:
        add(handler, 1)
        kept.append(driver(handler).dbapi_connection)
        (handler.session.connection() if way == "connection" else driver(handler)).detach()

    error = run(bus, monkeypatch, detach)
    assert isinstance(error, Misuse)
    assert "detached" in str(error)
    with pytest.raises(Exception, match="closed"):
        kept[0].cursor().execute("INSERT INTO accounts (id, name, balance) VALUES (9, 'late', 0)")
    assert (ids(bus), last(bus).status) == ([], "failed")
    assert "Exception" not in caplog.text
    goes_on(bus)


def test_after_the_database_rolled_back_by_itself_nothing_commits_on_its_own(
    sqlite_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk makes SQLite roll back; a handler that catches that must not go on in autocommit mode."""
    prepared(sqlite_url)

    def fill(handler: Any) -> None:
        connection = handler.session.connection()
        connection.exec_driver_sql("PRAGMA max_page_count=1")  # SQLite raises it to the pages there are
        try:
            for number in range(1000):
                connection.exec_driver_sql("INSERT INTO accounts VALUES (?, ?, 0)", (number, "x" * 3000))
        except Exception:
            connection.exec_driver_sql("INSERT INTO accounts VALUES (5000, 'after', 0)")

    with Bus(make_application(), sqlite_url) as bus:
        error = run(bus, monkeypatch, fill)
        assert error is not None
        assert ids(bus) == []
        assert last(bus).status == "failed"


CLEANUPS: dict[str, Callable[[Session], Any]] = {
    "add and flush": lambda session: (session.add(Account(id=7, name="seven")), session.flush()),
    "add alone": lambda session: session.add(Account(id=7, name="seven")),
    "execute": lambda session: session.execute(insert(Account).values(id=7, name="seven", balance=0)),
    "text": lambda session: session.execute(text("INSERT INTO accounts VALUES (7, 'seven', 0)")),
}


def with_cleanup(url: URL, clean_up: Callable[[Session], Any]) -> Bus:
    def repo(session: Session) -> Iterator[Repo]:
        yield Repo(session)
        clean_up(session)

    dependencies = {"repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)}
    return Bus(make_application(dependencies=dependencies), url)


@pytest.mark.parametrize("way", CLEANUPS)
def test_what_a_providers_cleanup_writes_is_the_actions_own(url: URL, way: str) -> None:
    with with_cleanup(url, CLEANUPS[way]) as bus:
        bus.create()
        with pytest.raises(LookupError):
            bus.execute("withdraw", {"id": 3, "amount": 1})
        assert ids(bus) == []
        outcome = bus.execute("open_account", {"id": 1, "name": "one"})
        assert ids(bus) == [1, 7]
        record = bus.journal.get(outcome.action_id)
        assert record is not None
        assert [change.key for change in record.touched] == [{"id": 1}, {"id": 7}], "of whatever writes"
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):  # the cleanup's row is there already
            bus.execute("open_account", {"id": 2, "name": "two"})
        assert ids(bus) == [1, 7]
        assert last(bus).status == "failed"


def test_what_a_cleanup_raises_fails_the_action_and_no_other_cleanup_is_left_out(url: URL) -> None:
    seen: list[str] = []

    def first(session: Session) -> Iterator[Session]:
        yield session
        seen.append("first")

    def repo(first: Session) -> Iterator[Repo]:
        yield Repo(first)
        seen.append("repo")
        raise Gone

    dependencies = {"first": first, "repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)}
    with Bus(make_application(dependencies=dependencies), url) as bus:
        with pytest.raises(Gone):
            bus.execute("open_account", {"id": 1, "name": "one"})
        assert (seen, ids(bus), last(bus).status) == (["repo", "first"], [], "failed")


def test_a_provider_that_yields_twice_is_refused(url: URL) -> None:
    def repo(session: Session) -> Iterator[Repo]:
        yield Repo(session)
        yield Repo(session)

    dependencies = {"repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)}
    with Bus(make_application(dependencies=dependencies), url) as bus:
        with pytest.raises(Misuse, match="yields more than once"):
            bus.execute("open_account", {"id": 1, "name": "one"})
        assert ids(bus) == []


AFTERWARDS: dict[str, Callable[[Session], Any]] = {
    "flush": lambda session: (session.add(Account(id=8, name="eight")), session.flush()),
    "execute": lambda session: session.execute(text("INSERT INTO accounts VALUES (8, 'eight', 0)")),
    "scalars": lambda session: session.scalars(select(Account)).all(),
    "connection": lambda session: session.connection(),
    "commit": lambda session: session.commit(),
}


@pytest.mark.parametrize("way", AFTERWARDS)
@pytest.mark.parametrize("fails", [False, True])
def test_a_session_that_was_kept_is_closed_for_good(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, fails: bool
) -> None:
    kept: list[Session] = []

    def keep(handler: Any) -> None:
        kept.append(handler.session)
        if fails:
            raise Gone

    run(bus, monkeypatch, keep)
    with pytest.raises(Misuse):
        AFTERWARDS[way](kept[0])
    assert ids(bus) == []
    goes_on(bus)
