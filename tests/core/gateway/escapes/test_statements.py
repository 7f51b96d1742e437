"""What would end the transaction, or is the gateway's, is refused before it is sent; what evades that is noticed (G2)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from sqlalchemy import DDL, select, text

from actionbus import Bus, Misuse
from tests.conftest import query
from tests.core.gateway.escapes.trying import SAID, Attempt, Gone, add, driver, goes_on, ids, last, run
from tests.shop.app import Account

WAYS_TO_SAY: dict[str, Callable[[Any, str], Any]] = {
    "text": lambda h, sql: h.session.execute(text(sql)),
    "text columns": lambda h, sql: h.session.execute(text(sql).columns(Account.id)),
    "from_statement": lambda h, sql: h.session.scalars(select(Account).from_statement(text(sql))).all(),
    "DDL": lambda h, sql: h.session.execute(DDL(sql)),
    "exec_driver_sql": lambda h, sql: h.session.connection().exec_driver_sql(sql),
}


@pytest.mark.parametrize(("way", "sql"), list(product(WAYS_TO_SAY, SAID)))
def test_what_would_end_the_transaction_is_refused_before_it_is_sent(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, sql: str
) -> None:
    """Each on one database in turn, which is never asked: what is said is read before it is sent."""

    def say(handler: Any) -> None:
        add(handler, 1)
        with pytest.raises(Misuse, match="begin_nested"):
            WAYS_TO_SAY[way](handler, sql)
        raise Gone

    error = run(bus, monkeypatch, say)
    assert isinstance(error, Gone), error
    assert ids(bus) == []
    assert last(bus).status == "failed"
    goes_on(bus)


HARMLESS = [
    "SELECT 'COMMIT'",
    "SELECT 1 /* COMMIT */",
    "SELECT 1 -- ; COMMIT",
    'SELECT 1 AS "commit"',
    "SELECT CASE WHEN 1 = 1 THEN 2 END",
    "SAVEPOINT mine",
    "SELECT '; COMMIT'",
]


@pytest.mark.parametrize("sql", HARMLESS)
def test_what_only_looks_like_it_is_let_through(bus: Bus, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    def say(handler: Any) -> None:
        add(handler, 1)
        handler.session.connection().exec_driver_sql(sql)

    assert run(bus, monkeypatch, say) is None
    assert ids(bus) == [1]


def and_back(handler: Any) -> None:
    cursor = driver(handler).driver_connection.cursor()
    if hasattr(cursor, "executescript"):
        cursor.executescript("BEGIN")  # which commits first
    else:
        from psycopg2.extensions import cursor as plain

        driver(handler).driver_connection.cursor(cursor_factory=plain).execute("COMMIT; BEGIN")


def unseen(sql: str) -> Attempt:
    """Said in a way that nobody stands before."""

    def say(handler: Any) -> None:
        from psycopg2.extensions import cursor as plain

        connection = driver(handler).driver_connection
        if hasattr(connection, "autocommit") and not hasattr(connection, "executescript"):
            connection.cursor(cursor_factory=plain).execute(sql)
        else:
            connection.execute(sql)

    return say


EVASIONS: dict[str, Attempt] = {
    "COMMIT that fails": lambda h: getattr(driver(h).cursor(), "executescript", unseen("COMMIT; nonsense"))(
        "COMMIT" if hasattr(driver(h).cursor(), "executescript") else h
    ),
    "the driver's COMMIT": unseen("COMMIT"),
    "the driver's ROLLBACK": unseen("ROLLBACK"),
    "COMMIT and BEGIN": and_back,
    "session.connection().close()": lambda h: h.session.connection().close(),
    "session.connection().invalidate()": lambda h: h.session.connection().invalidate(),
    "the pool's close()": lambda h: driver(h).close(),
    "the pool's invalidate()": lambda h: driver(h).invalidate(),
    "the driver's close()": lambda h: driver(h).driver_connection.close(),
}


@pytest.mark.parametrize("end", ["returns", "raises"])
@pytest.mark.parametrize("way", EVASIONS)
def test_an_end_that_was_evaded_is_noticed_and_said(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, end: str
) -> None:
    """What was committed past the gateway cannot be taken back; it is never called a success, nor hidden."""

    def evade(handler: Any) -> None:
        add(handler, 1)
        EVASIONS[way](handler)
        if end == "raises":
            raise Gone

    error = run(bus, monkeypatch, evade)
    assert error is not None
    record = last(bus)
    assert record.status == "failed"
    if ids(bus) == [1]:
        assert "COMMIT" in way
        assert isinstance(error, Misuse), error
        assert "may have been committed" in record.error["message"]
    query(bus.engine.url, "DELETE FROM accounts")
    goes_on(bus)


REFUSED: dict[str, Attempt] = {
    "session.commit": lambda h: h.session.commit(),
    "session.rollback": lambda h: h.session.rollback(),
    "session.close": lambda h: h.session.close(),
    "session.reset": lambda h: h.session.reset(),
    "session.invalidate": lambda h: h.session.invalidate(),
    "connection.commit": lambda h: h.session.connection().commit(),
    "isolation of the connection": lambda h: h.session.connection(
        execution_options={"isolation_level": "SERIALIZABLE"}
    ),
    "autocommit of the connection": lambda h: h.session.connection(execution_options={"isolation_level": "AUTOCOMMIT"}),
    "isolation, said later": lambda h: h.session.connection().execution_options(isolation_level="SERIALIZABLE"),
}


@pytest.mark.parametrize("caught", [False, True])
@pytest.mark.parametrize("way", REFUSED)
def test_what_is_the_gateways_is_refused_by_name(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, way: str, caught: bool
) -> None:
    def attempt(handler: Any) -> None:
        if "of the connection" not in way:  # these have an effect only as the first thing that is said
            add(handler, 1)
        try:
            REFUSED[way](handler)
        except Misuse:
            if not caught:
                raise
            raise Gone from None
        raise AssertionError("it was let through")

    error = run(bus, monkeypatch, attempt)
    assert isinstance(error, Gone if caught else Misuse), error
    assert (ids(bus), last(bus).status) == ([], "failed")
    goes_on(bus)
