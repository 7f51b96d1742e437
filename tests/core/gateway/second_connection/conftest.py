"""What a handler does, and engines that are disposed of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL

from tests.shop.actions.call_back import CallBack


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], None]:
    """What `call_back` does."""

    def set_to(function: Callable[[Any], Any]) -> None:
        monkeypatch.setattr(CallBack, "function", function)

    return set_to


@pytest.fixture
def engines() -> Iterator[Callable[..., Engine]]:
    """Makes engines of the application's own."""
    made: list[Engine] = []

    def make(url: URL | str, **options: Any) -> Engine:
        made.append(create_engine(url, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()
