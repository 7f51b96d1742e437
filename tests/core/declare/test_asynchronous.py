"""What is async is refused by name, when the bus is built or at the call: never a success that awaited nothing."""

from __future__ import annotations

import functools
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.orm import Session

from actionbus import ActionCall, Arg, Bus, ConfigurationError, Middleware, Misuse, outside, pure
from tests.conftest import BusFactory, query
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, make_application


async def a_coroutine(*_: Any, **__: Any) -> str:
    return "never"


async def an_async_generator(*_: Any, **__: Any) -> AsyncIterator[str]:
    yield "never"


@asynccontextmanager
async def an_async_context(*_: Any, **__: Any) -> AsyncIterator[str]:
    yield "never"


class Promise:
    """Awaitable in its own way."""

    ended = False

    def __await__(self) -> Any:
        yield

    def cancel(self) -> None:
        Promise.ended = True


class Stream:
    """Only async to iterate."""

    def __aiter__(self) -> Any:
        return self


GIVEN: dict[str, Callable[[], Any]] = {
    "a coroutine": a_coroutine,
    "an async generator": an_async_generator,
    "an async context": an_async_context,
    "an awaitable": Promise,
    "an async iterator": Stream,
}


class CalledAsync:
    """Is async only when called."""

    async def __call__(self, *_: Any) -> None:
        return None


ASYNC: dict[str, Any] = {
    "a coroutine function": a_coroutine,
    "an async generator": an_async_generator,
    "a partial": functools.partial(a_coroutine, 1),
    "a static method": staticmethod(a_coroutine),
    "an object": CalledAsync(),
}


@pytest.mark.parametrize("how", ASYNC)
@pytest.mark.parametrize("step", ["execute", "validate", "set_args"])
def test_a_handlers_async_step_is_refused_when_the_bus_is_built(
    monkeypatch: pytest.MonkeyPatch, step: str, how: str
) -> None:
    monkeypatch.setattr(CallBack, step, ASYNC[how])
    with pytest.raises(ConfigurationError, match=rf"call_back\.CallBack\.{step}\(\) is async"):
        Bus(make_application(), "sqlite://")


class Client:
    """Half of it is async."""

    def plain(self) -> None: ...

    async def send(self, to: str) -> str:
        return to

    async def listen(self) -> AsyncIterator[str]:
        yield "never"

    @staticmethod
    async def ping() -> None: ...


def made(session: Session) -> Client:
    return Client()


@pytest.mark.parametrize("factory", [Client, made])
def test_async_methods_of_an_outside_dependency_are_refused_when_the_bus_is_built(factory: Any) -> None:
    application = make_application()
    application.dependencies["client"] = outside(factory)
    with pytest.raises(ConfigurationError, match=r"'client' has async methods \(listen, ping, send\)"):
        Bus(application, "sqlite://")


def test_a_checkpoint_that_nobody_would_await_is_refused_when_the_bus_is_built() -> None:
    class Checkpoint:
        async def require(self, permission: str, arguments: Any) -> None: ...

    def checkpoint(session: Session) -> Checkpoint:
        return Checkpoint()

    checkpoint.__annotations__["return"] = Checkpoint
    application = make_application()
    application.dependencies["checkpoint"] = checkpoint
    with pytest.raises(ConfigurationError, match=r"'checkpoint' has async methods \(require\)"):
        Bus(application, "sqlite://")


@pytest.mark.parametrize("how", ["a coroutine function", "an async generator", "a partial", "an object"])
@pytest.mark.parametrize("declare", [outside, pure])
def test_an_async_provider_is_refused_when_the_bus_is_built(how: str, declare: Any) -> None:
    application = make_application()
    application.dependencies["client"] = declare(ASYNC[how])
    with pytest.raises(ConfigurationError, match="dependency 'client' is async"):
        Bus(application, "sqlite://")


@pytest.mark.parametrize("name", ["around_call", "around_execution"])
def test_async_middleware_is_refused_when_the_bus_is_built(name: str) -> None:
    kind = type("Around", (Middleware,), {name: a_coroutine})
    with pytest.raises(ConfigurationError, match=rf"Around\.{name}\(\) is async"):
        Bus(make_application(), "sqlite://", middleware=[kind()])


@pytest.mark.parametrize("arg", [Arg(int, validator=a_coroutine), Arg(int, default=a_coroutine)])
def test_an_argument_that_needs_awaiting_is_refused_when_the_bus_is_built(
    monkeypatch: pytest.MonkeyPatch, arg: Arg
) -> None:
    monkeypatch.setattr(CallBack, "arguments", {"n": arg})
    with pytest.raises(ConfigurationError, match=r"'n': its (validator|default) is async"):
        Bus(make_application(), "sqlite://")


class Late:
    """Nobody can tell before the call."""

    def __init__(self, given: Callable[[], Any]) -> None:
        self._given = given

    def send(self) -> Any:
        return self._given()

    @property
    def attribute(self) -> Any:
        return self._given()

    def items(self) -> Any:
        yield self._given()

    def __enter__(self) -> Any:
        return self._given()

    def __exit__(self, *_: object) -> None: ...

    def require(self, permission: str, arguments: Any) -> Any:
        return self._given()


def entering(handler: Any) -> None:
    with handler.late:
        pass


PLACES: dict[str, Callable[[Any], Any]] = {
    "execute": lambda handler: handler.given(),
    "a call": lambda handler: handler.late.send() and None,
    "an attribute": lambda handler: handler.late.attribute and None,
    "an item": lambda handler: list(handler.late.items()) and None,
    "a context": entering,
    "validate": lambda handler: None,
    "a provider": lambda handler: None,
    "a checkpoint": lambda handler: None,
    "a validator": lambda handler: None,
    "middleware": lambda handler: None,
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("place", PLACES)
def test_what_was_given_to_be_awaited_is_ended_and_fails_the_action(
    make_sqlite_bus: BusFactory, sqlite_url: Any, monkeypatch: pytest.MonkeyPatch, place: str, given: str
) -> None:
    """Warnings are errors here, so a coroutine that is only dropped would be told too."""
    give = GIVEN[given]
    Promise.ended = False
    gc.freeze()  # only what comes is looked through

    class Around(Middleware):
        def around_execution(self, call: ActionCall, session: Session, proceed: Callable[[], None]) -> None:
            proceed()
            return give() if place == "middleware" else None

    application = make_application(middleware=[Around()])
    application.dependencies["late"] = outside((lambda: give()) if place == "a provider" else (lambda: Late(give)))
    if place == "a checkpoint":
        application.dependencies["checkpoint"] = lambda actor: Late(give)
        monkeypatch.setattr(CallBack, "permission", "accounts:write")
    if place == "a validator":
        monkeypatch.setattr(CallBack, "arguments", {"n": Arg(int, required=True, validator=lambda n: give())})

    def run(handler: Any) -> Any:
        handler.session.add(Account(id=1, name="one"))
        return PLACES[place](handler)

    monkeypatch.setattr(CallBack, "requires", ("session", "runner", "mailer", "late"))
    monkeypatch.setattr(CallBack, "given", lambda handler: give(), raising=False)
    monkeypatch.setattr(CallBack, "validate", lambda handler: give() if place == "validate" else None)
    monkeypatch.setattr(CallBack, "function", run)
    bus = make_sqlite_bus(application)
    with pytest.raises(Misuse, match="which nobody awaits"):
        bus.execute("call_back", {"n": 1})
    gc.collect()
    [outcome] = bus.journal.read(kind="outcome")
    assert outcome.status == "failed"
    assert query(sqlite_url, "SELECT * FROM accounts") == []
    assert Promise.ended == (given == "an awaitable")


def test_what_can_be_used_without_awaiting_is_let_through(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a client that is both, and a mock."""
    from unittest.mock import MagicMock

    class Both:
        def __enter__(self) -> Both:
            return self

        def __exit__(self, *_: object) -> None: ...

        async def __aenter__(self) -> Both:
            return self

        async def __aexit__(self, *_: object) -> None: ...

        def send(self) -> str:
            return "sent"

    application = make_application()
    application.dependencies["late"] = outside(Both)
    monkeypatch.setattr(CallBack, "requires", ("session", "runner", "mailer", "late"))
    monkeypatch.setattr(
        CallBack, "function", lambda handler: [handler.late.send() for _ in range(1) if handler.mailer.send()]
    )
    runner = make_bus(application).runner("ann", overrides={"mailer": MagicMock()})
    assert runner.execute("call_back").result == ["sent"]


def test_an_async_client_behind_a_plain_one_works(make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the message advises."""
    import asyncio

    class Plain:
        def send(self, to: str) -> str:
            return asyncio.run(Client().send(to))

    application = make_application()
    application.dependencies["late"] = outside(Plain)
    monkeypatch.setattr(CallBack, "requires", ("session", "runner", "mailer", "late"))
    monkeypatch.setattr(CallBack, "function", lambda handler: handler.late.send("ann"))
    assert make_bus(application).execute("call_back").result == "ann"
