"""Handlers that spill a secret wherever they can, in every spelling; and all that anybody is told of them."""

from __future__ import annotations

import base64
import html
import json
import logging
import secrets
import traceback
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Arg, Bus, outside
from tests.conftest import BusFactory
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, make_application


def _base64(value: str, before: str = "", after: str = "") -> str:
    return base64.b64encode(f"{before}{value}{after}".encode()).decode()


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": lambda value: json.dumps(value)[1:-1],
    "json in unicode": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "json with slashes": lambda value: json.dumps(value)[1:-1].replace("/", "\\/"),
    "json twice": lambda value: json.dumps(json.dumps(value)),
    "repr": lambda value: repr(value)[1:-1],
    "ascii": lambda value: ascii(value)[1:-1],
    "bytes": lambda value: repr(value.encode())[2:-1],
    "quote": urllib.parse.quote,
    "quote all": lambda value: urllib.parse.quote(value, safe=""),
    "quote twice": lambda value: urllib.parse.quote(urllib.parse.quote(value, safe=""), safe=""),
    "quote_plus": urllib.parse.quote_plus,
    "urlencode": lambda value: urllib.parse.urlencode({"q": value}),
    "json in a url": lambda value: urllib.parse.quote_plus(json.dumps({"password": value})),
    "html": html.escape,
    "json in html": lambda value: html.escape(json.dumps(value)),
    "html in a url": lambda value: urllib.parse.quote_plus(html.escape(value)),
    "html but quotes": lambda value: html.escape(value, quote=False),
    "character references": lambda value: html.escape(value).encode("ascii", "xmlcharrefreplace").decode(),
    "sql": lambda value: value.replace("'", "''"),
    "base64": _base64,
    "base64 urlsafe": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "base64 unpadded": lambda value: _base64(value).rstrip("="),
    "basic auth": lambda value: f"Basic {_base64(value, 'ann:')}",
    "base64 at the second offset": lambda value: _base64(value, "a", "zz"),
    "base64 at the third offset": lambda value: _base64(value, "ab", "z"),
    "base64 in a url": lambda value: urllib.parse.quote(_base64(value), safe=""),
    "json in base64": lambda value: base64.b64encode(json.dumps({"password": value}).encode()).decode(),
    "hex": lambda value: value.encode().hex(),
    "hex in capitals": lambda value: value.encode().hex().upper(),
}


class Vault:
    """An outside service that is told secrets and tells them on."""

    def store(self, value: Any, **more: Any) -> Any:
        """Give the value back."""
        return {"stored": value, "again": [value]}

    def refuse(self, value: Any) -> None:
        """Quote the value in an error."""
        raise ConnectionError(f"cannot store {value}", {"value": value})


class Private(Exception):
    """Says what it keeps in a private attribute."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.__secret = secret

    def __str__(self) -> str:
        return f"private {self.__secret}"


class Slotted(Exception):
    """Says what it keeps in a slot."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._secret = secret

    def __str__(self) -> str:
        return f"slotted {self._secret}"


class Closed(Exception):
    """Says what it has nowhere that could be cleaned."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._said = lambda: secret

    def __str__(self) -> str:
        return f"closed {self._said()}"

    def __repr__(self) -> str:
        return f"Closed({self._said()!r})"


class Refused(Exception):
    """Carries another exception."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(f"refused: {reason}", reason)
        self.reason = reason


def _raise(error: BaseException) -> Any:
    raise error


def _chain(text: str) -> Any:
    try:
        raise ValueError(f"bad: {text}")
    except ValueError as error:
        raise RuntimeError("while " + text) from error


def _in_context(text: str) -> Any:
    try:
        raise ValueError(text)
    except ValueError:
        raise RuntimeError("later")  # noqa: B904


def _note(text: str) -> Any:
    error = ValueError("noted")
    error.add_note(f"with {text}")
    raise error


def _log(handler: Any, text: str) -> None:
    handler.logger.warning("with %s", text)
    handler.logger.warning("with %(p)s", {"p": text})
    handler.logger.warning("more", extra={"told": text, "nested": {"told": [text]}})


def _log_exception(handler: Any, text: str) -> None:
    for error in (ValueError(text), Closed(text), ExceptionGroup(text, [Private(text)])):
        try:
            raise error
        except Exception as caught:
            handler.logger.exception("failed")
            handler.logger.error("failed", exc_info=True)
            handler.logger.error("failed", exc_info=(type(caught), caught, caught.__traceback__))
            handler.logger.error("failed", exc_info=caught)


def _insert(handler: Any, text: str) -> None:
    handler.session.add(Account(id=1 + secrets.randbelow(10**9), name=f"{secrets.token_hex(6)} {text}"))
    handler.session.flush()


def _select(handler: Any, text_: str) -> Any:
    return handler.session.execute(text("SELECT :told AS told"), {"told": text_}).scalar_one()


def _bad_statement(handler: Any, text_: str) -> Any:
    return handler.session.execute(text("SELECT :told FROM nowhere"), {"told": text_})


PLACES: dict[str, Callable[[Any, str], Any]] = {
    "result": lambda handler, text: {"told": [text], text: 1},
    "call": lambda handler, text: handler.mailer.store(text, deep={"a": [text]}) and None,
    "call with bytes": lambda handler, text: handler.mailer.store(text.encode()) and None,
    "call that raises": lambda handler, text: handler.mailer.refuse(text),
    "error": lambda handler, text: _raise(ValueError("x", text)),
    "cause": lambda handler, text: _chain(text),
    "context": lambda handler, text: _in_context(text),
    "note": lambda handler, text: _note(text),
    "error with a private attribute": lambda handler, text: _raise(Private(text)),
    "error with a slot": lambda handler, text: _raise(Slotted(text)),
    "error that makes its words": lambda handler, text: _raise(Closed(text)),
    "error in an error": lambda handler, text: _raise(Refused(Private(text))),
    "group": lambda handler, text: _raise(
        ExceptionGroup(text, [ExceptionGroup(text, [Closed(text), ValueError(text)])])
    ),
    "group of interruptions": lambda handler, text: _raise(
        BaseExceptionGroup(text, [BaseExceptionGroup(text, [KeyboardInterrupt(text)]), ValueError(text)])
    ),
    "os error": lambda handler, text: _raise(FileNotFoundError(2, "no such file", text)),
    "rejection": lambda handler, text: handler.reject("note", f"{text} is bad"),
    "log": _log,
    "logged exception": _log_exception,
    "row": _insert,
    "query": _select,
    "bad statement": _bad_statement,
}


def _vaulted(make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, kind: Any) -> Bus:
    arguments = {"password": Arg(kind, sensitive=True), "note": Arg(str, required=False)}
    monkeypatch.setattr(CallBack, "arguments", arguments)
    monkeypatch.setattr(CallBack, "requires", ("session", "mailer", "logger", "runner", "secrets", "context"))
    parts = make_application().dependencies | {"mailer": outside(Vault)}
    return make_bus(make_application(dependencies=parts))


def told(bus: Bus, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture, **caller: Any) -> str:
    """All that is written, logged and raised when `call_back` is run once."""
    after = bus.journal.last()
    caplog.clear()
    found: list[str] = []
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "sqlalchemy.engine"):
        try:
            found.append(repr(bus.execute("call_back", arguments, **caller)))
        except BaseException as error:
            found += _shown(error)
    with bus.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM journal WHERE position > :after"), {"after": after})
        found += [
            column if isinstance(column, str) else json.dumps(column, default=str) for row in rows for column in row
        ]
    found += [caplog.text, *(str(_own(record)) for record in caplog.records)]
    return "\n".join(found)


def _own(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says, without the times and numbers that logging adds, which hold any few digits by chance."""
    added = {"created", "msecs", "relativeCreated", "thread", "process", "lineno"}
    return {name: value for name, value in vars(record).items() if name not in added}


def _shown(error: BaseException, depth: int = 0) -> list[str]:
    found = ["".join(traceback.format_exception(error)), str(error), repr(error), repr(error.args)]
    found += [repr(vars(error)) if depth == 0 else ""]
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for each in (error.__cause__, error.__context__, *parts):
        found += _shown(each, depth + 1) if each is not None and depth < 9 else []
    return found


def assert_without(everything: str, *spellings: str) -> None:
    """None of the spellings is there, nor as JSON text has it."""
    for spelling in spellings:
        for each in {spelling, json.dumps(spelling)[1:-1], repr(spelling)[1:-1]}:
            assert each not in everything, f"{each!r} in …{everything[max(0, everything.index(each) - 200) :][:500]}"


def run(
    bus: Bus, monkeypatch: Any, caplog: Any, place: str, made: Callable[[Any], str], secret: Any, **more: Any
) -> str:
    """All that comes of a handler that puts its secret, as `made` spells it, into a place."""
    monkeypatch.setattr(CallBack, "function", lambda handler: PLACES[place](handler, made(handler.args.password)))
    return told(bus, {"password": secret, **more}, caplog)


HARD = "pas\"ä'\\s/s w+ö&rd<😀>@%41\nx"
