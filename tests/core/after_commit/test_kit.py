"""An application's tests see the calls that wait for the commit, and have them made of their fakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actionbus import Application
from actionbus.testing import Given
from tests.core.after_commit.till import Till, application
from tests.shop.actions.call_back import CallBack


@pytest.fixture
def actionbus_application() -> Application:
    """What the kit's fixtures take."""
    return application()


def test_calls_wait_for_the_test_and_are_made_of_its_fakes(
    given: Given, fakes: dict[str, Any], run_queued: Callable[[], list[Any]], till: type[Till]
) -> None:
    class Fake:
        charged: list[int] = []

        def charge(self, amount: int, *, note: str, idempotency_key: str) -> str:
            self.charged.append(amount)
            return "receipt"

    fakes["mailer"] = Fake()
    CallBack.function = lambda handler: handler.mailer.charge(7, note="tea").key
    when = given().when("call_back").then(calls=[], postponed=["mailer.charge"])
    when.then(postponed=[{"call": ..., "args": [7], "kwargs": {"note": "tea"}, "key": when.result}])
    assert Fake.charged == []
    [performed] = run_queued()
    assert (performed.action, performed.result, Fake.charged, till.asked) == ("perform_mailer", "receipt", [7], [])
