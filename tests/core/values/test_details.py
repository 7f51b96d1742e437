"""The keys of `calls`, `error` and `stats` as they are recorded are those that their types say."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from actionbus import ActionCount, Bus, ErrorDetails, JournalStats, RecordedCall
from tests.shop.actions.call_back import CallBack


def keys(shape: Any) -> tuple[set[str], set[str]]:
    return set(shape.__required_keys__), set(shape.__annotations__)


def assert_shaped(found: Any, shape: Any) -> None:
    required, known = keys(shape)
    assert required <= found.keys() <= known


@pytest.mark.parametrize(
    "function",
    [
        lambda handler: handler.reject("text", "no"),
        lambda handler: 1 / 0,
        lambda handler: handler.session.execute(text("INSERT INTO accounts (id) VALUES (NULL)")),
    ],
)
def test_errors_have_the_keys_that_their_type_says(bus: Bus, monkeypatch: pytest.MonkeyPatch, function: Any) -> None:
    monkeypatch.setattr(CallBack, "function", function)
    with pytest.raises(Exception, match=r".*"):
        bus.execute("call_back")
    (error,) = (record.error for record in bus.journal.read(kind="outcome"))
    assert error is not None
    assert_shaped(error, ErrorDetails)


def test_calls_and_stats_have_the_keys_that_their_types_say(bus: Bus) -> None:
    bus.execute("notify", {"to": "a"})
    with pytest.raises(Exception, match=r".*"):
        bus.execute("notify", {"to": "nobody"})
    calls = [call for record in bus.journal.read(kind="outcome") for call in record.calls or []]
    assert {how for call in calls for how in ("returned", "raised") if how in call} == {"returned", "raised"}
    for call in calls:
        assert_shaped(call, RecordedCall)
    stats = bus.journal.stats()
    assert keys(JournalStats) == (stats.keys(), stats.keys())
    for each in stats["actions"]:
        assert keys(ActionCount) == (each.keys(), each.keys())
    assert_shaped(stats, JournalStats)
