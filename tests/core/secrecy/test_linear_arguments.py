"""What a caller sends costs time in proportion to its length, where secrets are looked for too."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from actionbus import ActionHandler, Arg, Bus, LimitExceeded
from actionbus.core.gateway.intent import MOST_UNKNOWN
from tests.conftest import BusFactory
from tests.helpers import write_package
from tests.shop.app import make_application


class SignUp(ActionHandler):
    """Takes a password."""

    arguments = {"name": Arg(str), "password": Arg(str, sensitive=True)}

    def execute(self) -> None: ...


@pytest.fixture
def signing(make_sqlite_bus: BusFactory, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    write_package(
        tmp_path,
        "signing",
        sign_up="from tests.core.secrecy.test_linear_arguments import SignUp as Base\n\n\nclass SignUp(Base):\n    '''Signs up.'''\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield make_sqlite_bus(make_application(actions=["signing"]))
    del sys.modules["signing"], sys.modules["signing.sign_up"]


def test_names_that_nobody_declared_cost_no_more_than_their_length(signing: Bus) -> None:
    """In processor time of this thread, the least of five, against one of twenty; the square would be 400 times that.

    The collector is off: what it costs depends on all that the tests before have left.
    """

    def cost(number: int) -> float:
        sent = {f"unknown{each}": f"value{each}" for each in range(number)}
        began = time.thread_time()
        with pytest.raises(LimitExceeded):
            signing.execute("sign_up", sent, actor="a")
        return time.thread_time() - began

    gc.disable()
    try:
        assert min(cost(20_000) for _ in range(5)) < 100 * min(cost(1_000) for _ in range(5))
    finally:
        gc.enable()


def test_too_many_names_that_nobody_declared_are_refused_and_nothing_of_them_is_kept(signing: Bus) -> None:
    sent = {f"passwort{each}": f"hunter{each}" for each in range(MOST_UNKNOWN + 1)}
    with pytest.raises(LimitExceeded) as refused:
        signing.execute("sign_up", {**sent, "name": "ana", "password": "hunter0"}, actor="a")
    told = str(refused.value.errors) + "".join(
        repr((record.arguments, record.error)) for record in signing.journal.read()
    )
    assert "hunter" not in told
