"""What a handler leaves open, or loses, ends with its action, and is told once."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from tests.conftest import query
from tests.core.gateway.escapes.trying import Gone, add, goes_on, ids, last, run
from tests.shop.app import make_application


@pytest.mark.parametrize("what", ["session", "connection", "two"])
@pytest.mark.parametrize("end", ["returns", "raises"])
def test_a_savepoint_that_is_left_open_ends_with_the_action(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str, end: str
) -> None:
    """What was written in it is the action's, and nobody is told of a failure that there is none of."""

    def leave(handler: Any) -> None:
        (handler.session.connection() if what == "connection" else handler.session).begin_nested()
        add(handler, 1)
        handler.session.flush()
        if what == "two":
            handler.session.begin_nested()
        if end == "raises":
            raise Gone

    run(bus, monkeypatch, leave)
    assert (ids(bus), last(bus).status) == (([1], "succeeded") if end == "returns" else ([], "failed"))
    assert [each for each in caplog.records if each.levelno >= logging.WARNING and each.exc_info] == []
    goes_on(bus)


def test_a_connection_that_is_lost_at_the_end_is_told_once(
    databases: dict[str, URL], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As the action's error, not by what closes its session."""
    url = databases["postgresql"]

    def lose(handler: Any) -> None:
        add(handler, 1)
        handler.session.flush()
        pid = handler.session.connection().connection.driver_connection.info.backend_pid
        query(url, f"SELECT pg_terminate_backend({pid}, 10000)")

    with Bus(make_application(), url) as bus:
        run(bus, monkeypatch, lose)
        assert last(bus).status == "failed"
    assert "listens to the end" not in caplog.text
