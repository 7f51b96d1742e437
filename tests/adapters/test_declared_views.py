"""What is declared of how an action is run is shown, in words and as JSON; what is not declared is not mentioned."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import ActionHandler, ActionTimeout, Arg, Retry, Unique
from actionbus.adapters.declared_views import declared, in_words
from actionbus.core.declare.registry import Registry
from tests.helpers import Run, documents
from tests.queued.actions.take_step import TakeStep
from tests.queued.app import make_application

ON = (ConnectionError, ActionTimeout)
KINDS = ["builtins:ConnectionError", "actionbus:ActionTimeout"]
FUNCTION = Retry(on=(OSError,), backoff=float)
CASES: list[tuple[str, Any, Any, str]] = [
    ("queue", "mail", "mail", "mail"),
    ("priority", -5, -5, "-5 (higher first, else 0)"),
    ("timeout", 30.0, 30.0, "30 s"),
    ("concurrency_key", "track", ["track"], "track: one at a time, in order"),
    ("every", "0 9 * * 1", "0 9 * * 1", "0 9 * * 1 UTC"),
    ("every", "0 9 * * 1 Europe/Berlin", "0 9 * * 1 Europe/Berlin", "0 9 * * 1 Europe/Berlin"),
    ("isolation", "SERIALIZABLE", "SERIALIZABLE", "SERIALIZABLE"),
    ("unique", Unique(), {"by": ["track"], "for": None}, "by track, while another one is on its way"),
    ("unique", Unique(by=("track",), for_="1 hour"), {"by": ["track"], "for": "1 hour"}, "by track, for 1 hour"),
    ("unique", Unique(for_=timedelta(minutes=2)), {"by": ["track"], "for": 120.0}, "by track, for 120 s"),
    (
        "retry",
        Retry(on=ON, attempts=5, backoff=2.0),
        {"on": KINDS, "attempts": 5, "backoff": 2.0},
        "on ConnectionError, ActionTimeout: 5 attempts, after 2 s, doubled up to an hour",
    ),
    (
        "retry",
        Retry(on=ON, backoff=[1, 60.5]),
        {"on": KINDS, "attempts": 3, "backoff": [1, 60.5]},
        "on ConnectionError, ActionTimeout: 3 attempts, after 1, 60.5 s, the last of which goes on",
    ),
    (
        "retry",
        Retry(on=(OSError,), backoff=[7]),
        {"on": ["builtins:OSError"], "attempts": 3, "backoff": [7]},
        "on OSError: 3 attempts, after 7 s each time",
    ),
    (
        "retry",
        FUNCTION,
        {"on": ["builtins:OSError"], "attempts": 3, "backoff": "builtins.float()"},
        "on OSError: 3 attempts, pauses by builtins.float()",
    ),
]
OF_EVERY_HANDLER = {"version", "requires", "arguments", "permission", "for_operators"}
"""Declarations that are shown in a way of their own, or nobody's concern who runs it."""


@pytest.fixture(autouse=True)
def undeclared(monkeypatch: pytest.MonkeyPatch) -> None:
    """An action that declares none of it, and has one argument, which a schedule need not give."""
    monkeypatch.setattr(TakeStep, "arguments", {"track": Arg(str)})
    monkeypatch.setattr(TakeStep, "retry", None)
    monkeypatch.setattr(TakeStep, "concurrency_key", None)


@pytest.fixture
def url(sqlite_url: URL) -> URL:
    return sqlite_url


@pytest.mark.parametrize(("name", "value", "shown", "words"), CASES, ids=[f"{each[0]}-{each[3]}" for each in CASES])
def test_what_is_declared_is_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, shown: Any, words: str
) -> None:
    monkeypatch.setenv("ACTIONBUS_APP", "tests.queued.app:app")
    monkeypatch.setattr(TakeStep, name, value)
    assert documents(run("actions", "take_step", "--json"))[0][name] == shown
    assert f"  {name}  {words}" in run("actions", "take_step").stdout.splitlines()


def test_what_is_as_in_every_handler_is_not() -> None:
    action = Registry(make_application()).get("take_step")
    assert (declared(action), in_words(action)) == ({}, [])


def test_every_declaration_has_a_case() -> None:
    own = {name for name, value in vars(ActionHandler).items() if name[0] != "_" and not callable(value)}
    data = {name for name in own if not isinstance(vars(ActionHandler)[name], (property, classmethod))}
    assert {each[0] for each in CASES} == data - OF_EVERY_HANDLER
