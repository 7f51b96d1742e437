"""How the tests of projections wait: for a condition, or until something was done so many more times. Never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

PATIENCE_S = 60.0
"""When to give up; it costs nothing where what is waited for comes about."""


def eventually(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait until the condition holds; who asks with much work rests the longer."""
    asked = time.monotonic()
    deadline = asked + seconds
    while not condition():
        now = time.monotonic()
        assert now < deadline, "it did not come about"
        time.sleep(max(0.02, 2 * (now - asked)))
        asked = time.monotonic()


def end_leases(engine: Engine) -> None:
    """As if the seconds had gone by after which a killed projector's lease runs out (SQLite; else its lock is gone)."""
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE actionbus_checkpoints SET alive_until = 0")


class Calls:
    """Counts the calls of a method, whoever makes them, so that "nothing happens" can be seen after so many of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.answers: list[Any] = []
        original = getattr(owner, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            try:
                answer = original(*arguments, **named)
            except Exception as error:
                self.answers.append(error)
                raise
            self.answers.append(answer)
            return answer

        monkeypatch.setattr(owner, name, counted)

    def more(self, count: int, answer: Callable[[Any], bool] = lambda _: True) -> None:
        """Wait until so many more of them have ended, with such an answer."""
        seen = len(self.answers)
        eventually(lambda: sum(map(answer, self.answers[seen:])) >= count)
