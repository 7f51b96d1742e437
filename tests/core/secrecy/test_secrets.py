"""A sensitive value is nowhere: not in the journal, the logs, the errors or the output."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Arg, Bus, InvalidArguments
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.secrecy.unescaping import may_hide
from tests.conftest import BusFactory
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, make_application, outside

SECRET = "s3cr3t-Pa$$wörd"
NUMBER = 918273645


class Vault:
    """An outside service that is told secrets and tells them on."""

    def store(self, value: Any, **more: Any) -> Any:
        """Give the value back."""
        return {"stored": value, "again": [value]}

    def refuse(self, value: Any) -> None:
        """Quote the value in an error."""
        raise ConnectionError(f"cannot store {value}", {"value": value})


@pytest.fixture
def vaulted(make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """A bus whose `call_back` takes secrets."""
    arguments = {
        "password": Arg(str, sensitive=True),
        "pin": Arg(int, sensitive=True),
        "name": Arg(str),
    }
    monkeypatch.setattr(CallBack, "arguments", arguments)
    monkeypatch.setattr(CallBack, "requires", ("session", "mailer", "logger", "runner"))
    parts = make_application().dependencies | {"mailer": outside(Vault)}
    return make_bus(make_application(dependencies=parts))  # type: ignore[return-value]


def violate(handler: Any) -> None:
    handler.session.add(Account(id=1, name=handler.args.password))
    handler.session.flush()
    with handler.session.begin_nested():
        handler.session.add(Account(id=2, name=handler.args.password))
        handler.session.flush()


def violate_by_text(handler: Any) -> None:
    handler.session.execute(
        text("INSERT INTO accounts (id, name, balance) VALUES (1, :p, :n)"), {"p": handler.args.password, "n": 1}
    )
    handler.session.execute(
        text("INSERT INTO accounts (id, name, balance) VALUES (1, :p, :n)"), {"p": handler.args.password, "n": 1}
    )


def log_it(handler: Any) -> None:
    handler.logger.warning("logging in with %s", handler.args.password)
    handler.logger.error("with %(p)s", {"p": handler.args.password})
    try:
        raise ValueError(handler.args.password)
    except ValueError as error:
        handler.logger.error("failed", exc_info=error)


def raise_chained(handler: Any) -> None:
    try:
        raise ValueError(f"bad: {handler.args.password}")
    except ValueError as error:
        raise RuntimeError("while using " + repr(handler.args.password)) from error


def reject(handler: Any) -> None:
    handler.reject("password", f"{handler.args.password} is too weak")


DOINGS: list[Callable[[Any], Any]] = [
    lambda handler: {"echo": handler.args.password, "n": handler.args.pin, handler.args.password: 1},
    lambda handler: handler.mailer.store(handler.args.password, deep={"a": [handler.args.pin]}),
    lambda handler: handler.mailer.refuse(handler.args.password),
    lambda handler: handler.session.add(Account(id=handler.args.pin or 3, name=handler.args.password)),
    violate,
    violate_by_text,
    log_it,
    raise_chained,
    reject,
]


@pytest.mark.parametrize("doing", DOINGS)
def test_a_secret_is_nowhere(
    vaulted: Bus, doing: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    monkeypatch.setattr(CallBack, "function", doing)
    assert_nowhere(vaulted, {"password": SECRET, "pin": NUMBER, "name": "ann"}, caplog, capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        {"pasword": SECRET},
        {"Password": SECRET, "pin": NUMBER},
        {"password": {"a": SECRET}},
        {"password": [SECRET], "x": SECRET},
        {"pin": SECRET},
        {"pin": f"{NUMBER}", "password": None},
        {"password": SECRET + "\0"},
        {"password": SECRET * 100_000},
        {"password": SECRET.encode()},
        {"name": 5, "password": SECRET},
    ],
)
def test_not_even_with_misspelt_names_or_wrong_types(
    vaulted: Bus, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    assert_nowhere(vaulted, arguments, caplog, capsys)


def test_a_validator_that_quotes_the_value(
    vaulted: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: Any, make_bus: BusFactory
) -> None:
    def quote(value: str) -> None:
        raise ValueError(f"{value} is bad")

    monkeypatch.setattr(CallBack, "arguments", {"password": Arg(str, sensitive=True, validator=quote)})
    bus = make_bus(vaulted.application)
    assert_nowhere(bus, {"password": SECRET}, caplog, capsys)


def test_an_unknown_action_keeps_names_only(vaulted: Bus, caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
    assert_nowhere(vaulted, {"password": SECRET}, caplog, capsys, name="call_bakc")


def test_the_handler_does_get_the_value(vaulted: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CallBack, "function", lambda h: h.args.password == SECRET and h.args.pin == NUMBER)
    assert vaulted.execute("call_back", {"password": SECRET, "pin": NUMBER}).result is True


def assert_nowhere(bus: Bus, arguments: Any, caplog: Any, capsys: Any, name: str = "call_back") -> None:
    told = ""
    with caplog.at_level(logging.DEBUG):
        try:
            told = repr(bus.execute(name, arguments))
        except InvalidArguments as error:
            told = repr(error.errors) + "".join(traceback.format_exception(error))
        except Exception as error:
            told = "".join(traceback.format_exception(error)) + repr(error)
    with bus.engine.connect() as connection:
        journal = "\n".join(str(tuple(row)) for row in connection.execute(text("SELECT * FROM journal")))
    printed = capsys.readouterr()
    for place in (
        told,
        journal,
        caplog.text,
        "\n".join(r.getMessage() for r in caplog.records),
        printed.out,
        printed.err,
    ):
        for spelling in (SECRET, ascii(SECRET)[1:-1], str(NUMBER)):
            assert spelling not in place


def test_scrubbing_leaves_the_rest_alone() -> None:
    scrubber = Scrubber()
    assert scrubber.text("nothing") == "nothing"
    scrubber.remember({"a": "hunter2", "b": [7]})
    assert scrubber.text("hunter2 and 7, not 17") == "[secret] and [secret], not 17"
    assert scrubber.json({"x": [7, True, "17"], "hunter2": 1}) == {"x": ["[secret]", True, "17"], "[secret]": 1}


EVERY_CHARACTER: dict[str, Callable[[str], str]] = {
    "url": lambda text: "".join(f"%{ord(each):02X}" for each in text),
    "url in small letters": lambda text: "".join(f"%{ord(each):02x}" for each in text),
    "json": lambda text: "".join(f"\\u{ord(each):04x}" for each in text),
    "python": lambda text: "".join(f"\\x{ord(each):02x}" for each in text),
    "python at length": lambda text: "".join(f"\\U{ord(each):08x}" for each in text),
    "octal": lambda text: "".join(f"\\{ord(each):03o}" for each in text),
    "html": lambda text: "".join(f"&#x{ord(each):x};" for each in text),
    "html in decimals": lambda text: "".join(f"&#{ord(each)};" for each in text),
}
"""Ways to escape even what need not be."""


def every_second(text: str) -> str:
    return "".join(f"%{ord(each):02X}" if number % 2 else each for number, each in enumerate(text))


@pytest.mark.parametrize("outer", [*EVERY_CHARACTER, "none"])
@pytest.mark.parametrize("inner", EVERY_CHARACTER)
def test_a_secret_is_found_with_every_character_escaped(inner: str, outer: str) -> None:
    scrubber = Scrubber()
    scrubber.remember("hunter2pass")
    spelled = EVERY_CHARACTER.get(outer, str)(EVERY_CHARACTER[inner]("hunter2pass"))
    assert scrubber.text(every_second("hunter2pass")) == "[secret]"
    assert scrubber.text(f"it is {spelled}, so") == "it is [secret], so"
    assert scrubber.json({"is": [spelled]}) == {"is": ["[secret]"]}
    assert scrubber.holds(spelled)


@pytest.mark.parametrize(
    "text",
    [
        "nothing at all, 100 % & more",
        "https://x.org/a%20b/%C3%A4?q=1&c=%2F",
        json.dumps({"name": 'Käthe \n "x" 👩'}),
        "C:\\users\\new",
        "a\tb\\tc",
    ],
)
def test_ordinary_texts_are_seen_quickly_to_hide_nothing(text: str) -> None:
    assert not may_hide(text)


def test_tokens_handed_out_by_secrets_are_scrubbed(bus: Bus) -> None:
    outcome = bus.execute("draw")
    assert outcome.result["token"] == "[secret]"
