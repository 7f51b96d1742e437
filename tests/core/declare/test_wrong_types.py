"""Whatever is given for a public parameter or declaration, it is taken or refused by name: what was expected, what came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import sessionmaker

from actionbus import Application, Arg, Bus, ConfigurationError, Limits, Queue, Retry, Ticket, Unique
from actionbus.core.declare.registry import Registry
from actionbus.projections import Projection, Subscription, on
from tests.queued.actions.take_step import TakeStep
from tests.queued.app import Base, make_application

WRONG: dict[str, Any] = {
    "object": object(),
    "number": 5,
    "negative": -5,
    "float": 2.5,
    "nan": float("nan"),
    "true": True,
    "text": "x y",
    "empty text": "",
    "bytes": b"x",
    "texts": ["x y"],
    "objects": [object()],
    "lists": [[5]],
    "dict": {"a": 5},
    "odd dict": {5: []},
    "set": {5},
    "class": int,
    "function": lambda *_: object(),
    "timedelta": timedelta(1),
    "queue": Queue("actions", concurrency=1),
    "arg": Arg(str),
}


class Steps(Projection):
    """A projection with nothing wrong."""

    @on("take_step", key="track")
    def taken(self, document: Any, record: Any) -> Any:
        return document


class Follower(Subscription):
    """A subscription with nothing wrong."""

    def handle(self, records: Sequence[Any]) -> None: ...


WRONG |= {"projection": Steps, "projections": [Steps], "subscriptions": [Follower], "instances": [Steps(), Follower()]}

Given = Callable[[pytest.MonkeyPatch, str, Any], None]


MEANT = {
    "dependencies": "dependency 'a' is not callable",
    "schema": "SQLite has no schemas",
    "by": "unique names 'x y'",
    "concurrency_key": "names 'x y', which is no argument",
    "for_operators": "an action for operators must name",
    "statuses": "wants the status 'x y'",
    "actions": "wants the action 'x y'",
}
"""What is said of values of the right type, whose parameter is clear without its name."""


def application(patch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    if name == "name":
        Registry(Application(value, actions=["tests.queued.actions"]))
    else:
        Registry(make_application(**{name: value}))


def bus(patch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    options: Any = {"application": make_application(), "database": "sqlite://", name: value}
    Bus(**options).close()


def handler(patch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    patch.setattr(TakeStep, name, value)
    if name != "arguments":
        patch.setattr(TakeStep, "arguments", {"track": Arg(str)})
    if name != "concurrency_key":
        patch.setattr(TakeStep, "concurrency_key", None)
    Registry(make_application())


def made(kind: Any, **good: Any) -> Given:
    def give(patch: pytest.MonkeyPatch, name: str, value: Any) -> None:
        thing = kind(**(good | {name: value}))
        if kind is Queue:
            Registry(make_application(queues=[thing]))
        elif kind is Limits:
            Registry(make_application(limits=thing))
        else:
            handler(patch, kind.__name__.lower(), thing)

    return give


def projection(patch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    patch.setattr(Steps, name, value)
    Registry(make_application(projections=[Steps]))


def reducer(patch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    mark: Any = partial(on, **({"action": "take_step", "key": "track"} | {name: value}))

    class Marked(Projection):
        @mark()
        def taken(self, document: Any, record: Any) -> Any:
            return document

    Registry(make_application(projections=[Marked]))


def subscription(patch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    patch.setattr(Follower, name, value)
    Registry(make_application(subscriptions=[Follower]))


def arg(patch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    handler(patch, "arguments", {"track": Arg(**({"type": str} | {name: value}))})


TEXTS = {"text", "empty text"}
LISTS = {"projections", "subscriptions", "instances"}
CASES: dict[tuple[Given, str], set[str]] = {
    (application, "name"): {"text"},
    (application, "actions"): set(),
    (application, "models"): set(),
    (application, "dependencies"): set(),
    (application, "release"): TEXTS,
    (application, "limits"): set(),
    (application, "isolation"): set(),
    (application, "projections"): {"projections"},
    (application, "subscriptions"): {"subscriptions"},
    (application, "middleware"): set(),
    (application, "unrecorded"): set(),
    (application, "queues"): set(),
    (bus, "application"): set(),
    (bus, "database"): set(),
    (bus, "session_factory"): {"class", "function", "projection"},
    (bus, "schema"): {"empty text"},
    (bus, "attempts"): {"number"},
    (bus, "reconnect_for"): {"number", "float"},
    (bus, "broker"): set(),
    (bus, "middleware"): set(),
    (bus, "leave_calls_to_workers"): {"true"},
    (made(Queue, concurrency=1), "name"): set(),
    (made(Queue, name="actions", rate="1/second"), "concurrency"): {"number"},
    (made(Queue, name="actions", concurrency=1), "rate"): set(),
    (made(Retry), "on"): set(),
    (made(Retry, on=(OSError,)), "attempts"): {"number"},
    (made(Retry, on=(OSError,)), "backoff"): {"number", "float", "class", "function", "projection"},
    (made(Unique), "by"): set(),
    (made(Unique), "for_"): {"timedelta"},
    (made(Limits), "arguments_bytes"): {"number"},
    (made(Limits), "depth"): {"number"},
    (handler, "version"): {"number"},
    (handler, "requires"): set(),
    (handler, "arguments"): set(),
    (handler, "permission"): set(),
    (handler, "for_operators"): set(),
    (handler, "isolation"): set(),
    (handler, "queue"): set(),
    (handler, "priority"): {"number", "negative"},
    (handler, "retry"): set(),
    (handler, "timeout"): {"number", "float"},
    (handler, "concurrency_key"): set(),
    (handler, "unique"): set(),
    (handler, "every"): set(),
    (projection, "name"): set(),
    (projection, "version"): {"number"},
    (projection, "mappings"): {"dict", "odd dict"},
    (projection, "settings"): {"dict", "odd dict"},
    (reducer, "action"): set(),
    (reducer, "key"): {"text", "function", "class", "projection"},
    (reducer, "statuses"): set(),
    (subscription, "name"): set(),
    (subscription, "actions"): set(),
    (subscription, "kinds"): set(),
    (subscription, "batch"): {"number"},
    (arg, "type"): {"class"},
    (arg, "required"): {"true"},
    (arg, "options"): {"texts", "objects", "lists", "dict", "odd dict", "set", "arg", *LISTS},
    (arg, "validator"): {"class", "function", "projection", "projections", "subscriptions"},
    (arg, "many"): {"true"},
    (arg, "sensitive"): {"true"},
    (arg, "description"): TEXTS,
}


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case[1]}" for number, case in enumerate(CASES)])
def test_a_value_of_a_wrong_type_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, case: tuple[Given, str]) -> None:
    give, name = case
    taken, untold = set(), {}
    for kind, value in WRONG.items():
        with monkeypatch.context() as patch:
            try:
                give(patch, name, value)
            except ConfigurationError as error:
                if name.rstrip("_") not in str(error) and MEANT.get(name, "-") not in str(error):
                    untold[kind] = str(error)
            except Exception as error:  # what this test is about
                if MEANT.get(name, "-") not in str(error):
                    untold[kind] = repr(error)
            else:
                taken.add(kind)
    assert untold == {}
    assert taken == CASES[case]


def test_what_stands_in_a_message_helps() -> None:
    told = {
        "put it into a list: queues=[Queue('mail', …)]": lambda: make_application(queues=Queue("mail", concurrency=1)),
        "models=Base.metadata": lambda: make_application(models=Base),
        "give the class Steps, not an object of it": lambda: make_application(projections=[Steps()]),
        "subscriptions: expected subclasses of Subscription, not 'x'": lambda: make_application(subscriptions=["x"]),
        "Follower is a Subscription: subscriptions=": lambda: make_application(projections=[Follower]),
        "Steps is a Projection: projections=": lambda: make_application(subscriptions=[Steps]),
        "session_factory=": lambda: Bus(make_application(), sessionmaker()),
        "CeleryBroker(": lambda: Bus(make_application(), "sqlite://", broker="redis://localhost"),  # type: ignore[arg-type]
    }
    for words, give in told.items():
        with pytest.raises(ConfigurationError) as caught:
            Bus(give(), "sqlite://")  # type: ignore[arg-type]
        assert words in str(caught.value)


def test_all_mistakes_in_an_application_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_application(queues=5, models=MetaData, subscriptions=["x"], release=7)
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("timeout", ["x", None, object(), True, float("nan"), [1]])
def test_a_ticket_waits_a_number_of_seconds(timeout: Any) -> None:
    with Bus(make_application(), "sqlite://") as found:
        found.create()
        ticket: Ticket = found.runner("ana").execute_async("take_step", {"track": "a"})
        with pytest.raises((TypeError, ValueError), match="timeout must be a number of seconds"):
            ticket.wait(timeout)
