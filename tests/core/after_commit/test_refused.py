"""What cannot be meant by `after_commit` is refused: when the bus is built, or when a handler asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Application, Arg, Bus, ConfigurationError, InvalidArguments, Misuse, Retry, outside
from tests.conftest import BusFactory
from tests.core.after_commit.till import Till, application
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application


def declared(name: str = "mailer", factory: Any = Till, **options: Any) -> Application:
    return make_application(
        dependencies={"repo": outside(Till), "mailer": outside(Till), name: outside(factory, **options)}
    )


class Async:
    async def charge(self) -> None: ...


@pytest.mark.parametrize(
    ("application", "why"),
    [
        (lambda: declared(key="key"), "give after_commit=True too"),
        (lambda: declared(retry=Retry(on=(ValueError,))), "give after_commit=True too"),
        (lambda: declared(after_commit=True, key="not a name"), "the name of the parameter"),
        (lambda: declared(after_commit=True, key="class"), "the name of the parameter"),
        (lambda: declared(after_commit=True, retry=3), "must be a Retry"),
        (lambda: declared(after_commit=True, retry=Retry(on=())), "must be a tuple of exceptions"),
        (lambda: declared(after_commit=True, preview=Till), "leave out preview="),
        (lambda: declared("checkpoint", after_commit=True), "needs its answer at once"),
        (lambda: declared("serializer", after_commit=True), "needs its answer at once"),
        (lambda: declared("Mailer", after_commit=True), "in lower case"),
        (lambda: declared(factory=Async, after_commit=True), "async methods"),
        (lambda: declared(factory=lambda nothing: None, after_commit=True), "requires 'nothing'"),
    ],
)
def test_declarations(application: Callable[[], Application], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Bus(application(), "sqlite://")


def test_an_action_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="made by the action 'perform_later'"):
        Bus(
            make_application(
                actions=["tests.shop.actions", "tests.core.after_commit.actions"],
                dependencies={
                    "repo": outside(Till),
                    "mailer": outside(Till),
                    "later": outside(Till, after_commit=True),
                },
            ),
            "sqlite://",
        )


def answered(handler: Any) -> Any:
    return handler.mailer.charge(1)


USES: dict[str, Callable[[Any], Any]] = {
    "truth": lambda handler: bool(answered(handler)),
    "an attribute": lambda handler: answered(handler).receipt,
    "an item": lambda handler: answered(handler)["receipt"],
    "comparison": lambda handler: answered(handler) == "paid",
    "text": lambda handler: f"{answered(handler)}",
    "items": lambda handler: list(answered(handler)),
    "a call": lambda handler: answered(handler)(),
    "setting": lambda handler: setattr(answered(handler), "key", "another"),
    "of the dependency, truth": lambda handler: bool(handler.mailer),
    "of the dependency, a value": lambda handler: f"{handler.mailer.currency}",
    "of the dependency, setting": lambda handler: setattr(handler.mailer, "currency", "USD"),
    "of the dependency, with": lambda handler: handler.mailer.__enter__(),
    "its own key": lambda handler: handler.mailer.charge(1, idempotency_key="mine"),
    "an object": lambda handler: handler.mailer.charge(object()),
    "the call before": lambda handler: handler.mailer.charge(answered(handler)),
    "not a number": lambda handler: handler.mailer.charge(float("nan")),
}


@pytest.mark.parametrize("use", USES)
def test_what_a_handler_makes_of_it(bus: Bus, till: type[Till], use: str) -> None:
    CallBack.function = USES[use]
    with pytest.raises(Misuse) as raised:
        bus.execute("call_back")
    assert "mailer" in str(raised.value)
    assert (till.asked, bus.runs.all()) == ([], [])


RETURNED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "call": (answered, "a PostponedCall stands for a call that is made after the commit.*give its `action_id`"),
    "call inside": (lambda handler: {"calls": [answered(handler)]}, "give its `action_id`, whose outcome"),
    "dependency": (lambda handler: handler.mailer, "a dependency that is called after the commit"),
    "part of it": (lambda handler: [handler.mailer.refunds], "a dependency that is called after the commit"),
    "arguments": (
        lambda handler: handler.args,
        r"the action's Arguments; give those that are wanted, or dict\(self.args",
    ),
}


@pytest.mark.parametrize("what", RETURNED)
def test_what_is_returned_in_its_place_is_named_with_what_to_return(bus: Bus, till: type[Till], what: str) -> None:
    CallBack.function, told = RETURNED[what]
    with pytest.raises(ValueError, match=f"^the result cannot be kept: .*{told}"):
        bus.execute("call_back")
    assert (till.asked, bus.runs.all()) == ([], [])


@pytest.mark.parametrize("instead", [lambda call: call.action_id, lambda call: {"key": call.key}, lambda call: None])
def test_what_it_says_to_return_can_be_returned(bus: Bus, till: type[Till], instead: Callable[[Any], Any]) -> None:
    CallBack.function = lambda handler: instead(answered(handler))
    assert bus.execute("call_back").status == "succeeded"
    CallBack.function = lambda handler: dict(handler.args)
    assert bus.execute("call_back").result == {"n": 0}


def test_handed_to_a_nested_action_it_is_named_too(bus: Bus, till: type[Till]) -> None:
    CallBack.function = lambda handler: handler.runner.execute("call_back", {"n": answered(handler)})
    with pytest.raises(InvalidArguments, match="give its `action_id`"):
        bus.execute("call_back")
    assert till.asked == []


@pytest.mark.parametrize("wrong", [((), {}), ((1, 2), {}), ((1,), {"amonut": 2})])
def test_arguments_that_the_method_does_not_take(bus: Bus, till: type[Till], wrong: Any) -> None:
    args, kwargs = wrong
    CallBack.function = lambda handler: handler.mailer.charge(*args, **kwargs)
    with pytest.raises(TypeError, match=r"mailer\.charge"):
        bus.execute("call_back")
    assert till.asked == []


SECRETS: dict[str, Arg] = {
    "sensitive": Arg(str, required=True, sensitive=True),
    "personal": Arg(str, required=True, personal=True),
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: {"deep": [f"for {it}!"]}])
def test_secrets_and_what_is_personal_do_not_wait_in_the_queue(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, till: type[Till], kind: str, wrap: Any
) -> None:
    monkeypatch.setattr(CallBack, "arguments", {"word": SECRETS[kind], "n": Arg(int, default=0)})
    CallBack.function = lambda handler: handler.mailer.charge(1, note=wrap(handler.args.word))
    bus = make_bus(application())
    with pytest.raises(Misuse, match="give an id by which"):
        bus.execute("call_back", {"word": "sesame open"})
    assert till.asked == []
    with bus.engine.connect() as connection:
        stored = str(connection.execute(text("SELECT * FROM journal")).all())
    assert "sesame" not in stored


def test_a_secret_that_was_made_does_not_wait_either(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, till: type[Till]
) -> None:
    monkeypatch.setattr(CallBack, "requires", (*CallBack.requires, "secrets"))
    CallBack.function = lambda handler: handler.mailer.charge(1, note=handler.secrets.token_hex())
    with pytest.raises(Misuse, match="is given a secret"):
        make_bus(application()).execute("call_back")
    assert till.asked == []
