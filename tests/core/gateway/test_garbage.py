"""What an action that succeeded was run with goes with it, and does not wait in a circle for the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actionbus import Bus
from tests.shop.actions.call_back import CallBack


def mail(handler: Any) -> None:
    handler.mailer.send("to", "text")


def nest(handler: Any) -> None:
    handler.runner.execute("deposit", {"id": 1, "amount": 5})


def nest_in_savepoint(handler: Any) -> None:
    with handler.session.begin_nested():
        nest(handler)


HANDLERS: list[Callable[[Any], Any]] = [lambda handler: None, mail, nest, nest_in_savepoint]
RUNS: list[Callable[[Bus], Any]] = [
    lambda bus: bus.execute("deposit", {"id": 1, "amount": 5}),
    lambda bus: bus.execute("call_back", {"n": 1}),
    lambda bus: bus.runner("ana").execute_many([("call_back", {}), ("deposit", {"id": 1, "amount": 5})]),
    lambda bus: bus.runner("ana").preview("deposit", {"id": 1, "amount": 5}),
]


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("handler", HANDLERS, ids=["nothing", "mail", "nested", "savepoint"])
@pytest.mark.parametrize("run", RUNS, ids=["plain", "call", "many", "preview"])
def test_nothing_is_left_for_the_garbage_collector(
    shop: Bus, handler: Callable[[Any], Any], run: Callable[[Bus], Any]
) -> None:
    CallBack.function = handler
    counts = []
    for _ in range(4):
        run(shop)
        counts.append(gc.collect())
    assert counts[-1] == 0
