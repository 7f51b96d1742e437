"""What tests of escapes do: let the action `call_back` try something, and look at what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Bus
from tests.conftest import query
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account

Attempt = Callable[[Any], Any]


class Gone(Exception):
    """What the handlers here raise."""


def run(bus: Bus, monkeypatch: pytest.MonkeyPatch, function: Attempt) -> BaseException | None:
    monkeypatch.setattr(CallBack, "function", function)
    try:
        bus.execute("call_back")
    except BaseException as error:
        return error
    return None


def ids(bus: Bus) -> list[int]:
    return sorted(row[0] for row in query(bus.engine.url, "SELECT id FROM accounts"))


def last(bus: Bus) -> Any:
    return bus.journal.tail(1, kind="outcome")[0]


def add(handler: Any, number: int) -> None:
    handler.session.add(Account(id=number, name=str(number)))
    handler.session.flush()


def driver(handler: Any) -> Any:
    return handler.session.connection().connection


def goes_on(bus: Bus) -> None:
    """The next action on the same pool is whole: both records, its row, and nothing of anybody else's."""
    before = ids(bus)
    outcome = bus.execute("open_account", {"id": 99, "name": "next"})
    assert ids(bus) == [*before, 99]
    assert [record.kind for record in bus.journal.history(outcome.action_id)] == ["submitted", "outcome"]
    with bus.engine.connect() as connection:  # of the same pool
        dbapi: Any = connection.connection.dbapi_connection
        assert not getattr(dbapi, "in_transaction", False)
        if bus.engine.dialect.name == "postgresql":
            assert dbapi.autocommit is False
            assert dbapi.get_transaction_status() == 0
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert connection.execute(text(held)).scalar() == 0


SAID = [
    "COMMIT",
    "commit",
    "  /* why */ COMMIT",
    "-- why\nCOMMIT",
    "/* a /* nested */ one */ COMMIT",
    "; COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "COMMIT AND CHAIN",
    "rollback work",
    "BEGIN",
    "START TRANSACTION",
    "PREPARE TRANSACTION 'x'",
    "RESET ALL",
    "SELECT 1; COMMIT",
    "--x\r COMMIT",
    "SELECT 1 AS a$b$; COMMIT",
    "\ufeffCOMMIT",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMIT",
    "CREATE TRIGGER t AFTER INSERT ON accounts BEGIN SELECT CASE WHEN 1 THEN 2 END; END; COMMIT",
    "SELECT ';'; COMMIT",
    "SELECT $$;$$; COMMIT",
    "SELECT E'\\';'; COMMIT",
]
