"""A secret, in any of the spellings that programs give it, is in no record, no log and nothing that a caller catches."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import secrets
import traceback
import urllib.parse
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from actionbus import Arg, Bus, outside
from tests.conftest import TORTURE, BusFactory, in_turn
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

VALUES: list[tuple[Any, Any, list[str]]] = [
    (datetime, "2024-03-05T01:02:03Z", ["2024-03-05T01:02:03", "2024-03-05 01:02:03", "20240305T010203", "1709600523"]),
    (datetime, "2024-03-05T01:02:03.250000+02:00", ["2024-03-05T01:02:03", "2024-03-04T23:02:03", "04 Mar 2024 23:02:03"]),
    (date, "1980-04-07", ["1980-04-07", "19800407", "07.04.1980", "04/07/1980"]),
    (timedelta, "PT2600026H", ["PT2600026H", "PT9360093600S", "P108334DT10H", "108334 days, 10:00:00", "9360093600"]),
    (UUID, "9a3b6c1e-7b52-4b8e-9d61-0f7d3c2b1a55", [
        "9a3b6c1e-7b52-4b8e-9d61-0f7d3c2b1a55", "9a3b6c1e7b524b8e9d610f7d3c2b1a55", "9A3B6C1E-7B52-4B8E-9D61-0F7D3C2B1A55",
        base64.b64encode(UUID("9a3b6c1e-7b52-4b8e-9d61-0f7d3c2b1a55").bytes).decode(),
        str(UUID("9a3b6c1e-7b52-4b8e-9d61-0f7d3c2b1a55").int),
    ]),
    (Decimal, "918273.50", ["918273.50", "918273.5"]),
    (int, 918273645, ["918273645", "918,273,645"]),
]  # fmt: skip


class Colour(Enum):
    """Has names and values that both tell."""

    VERMILION = "zinnober"


def utc(moment: datetime) -> datetime:
    """The moment as a program would show it."""
    return moment.astimezone(UTC)


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
    "group": lambda handler, text: _raise(ExceptionGroup(text, [ExceptionGroup(text, [Closed(text), ValueError(text)])])),
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
}  # fmt: skip


@pytest.fixture
def vaulted(make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """A bus whose `call_back` takes a secret and something that is none."""
    return _vaulted(make_bus, monkeypatch, str)


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


CODED_AGAIN = {name for name in ENCODINGS if "base64" in name or "basic" in name or "hex" in name or "twice" in name}
"""Base64 of these is not looked into: docs/actions.md says so."""
HARD = "pas\"ä'\\s/s w+ö&rd<😀>@%41\nx"


@in_turn("place", PLACES)
def test_a_secret_is_nowhere_in_any_spelling(
    vaulted: Bus, place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spellings = [encode(HARD) for encode in ENCODINGS.values()]
    for name, encode in ENCODINGS.items():
        everything = run(vaulted, monkeypatch, caplog, place, encode, HARD)
        if not (place == "call with bytes" and name in CODED_AGAIN):
            assert "[secret]" in everything or "values hidden" in everything, name
        assert_without(everything, *spellings)


_SECRETS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=4, max_size=60)


@settings(
    max_examples=500 if TORTURE else 30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(_SECRETS, st.sampled_from(sorted(ENCODINGS)), st.sampled_from(sorted(PLACES)))
@example("hunter22", "basic auth", "call")
@example('\\\\\\"\\', "json twice", "error")
@example("%25%25%2525", "quote twice", "call")
@example("&amp;&#38;&amp;amp;", "html", "result")
@example("    ", "plain", "log")
def test_any_secret_in_any_spelling_at_any_place(
    vaulted: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    secret: str, encoding: str, place: str,
) -> None:  # fmt: skip
    assume(secret.strip())
    assume(not re.fullmatch(r"[0-9a-fA-FTZ:+. -]{0,12}", secret))  # ids, seeds and times may hold it by chance
    spellings = {spelled for encode in ENCODINGS.values() if len(spelled := encode(secret)) >= 4}
    # What is there anyhow, whatever the secret is, tells nothing of it.
    without = run(vaulted, monkeypatch, caplog, place, ENCODINGS[encoding], "q9Zk-other-Kz8v")
    assume(not any(spelling in without for spelling in spellings))
    everything = run(vaulted, monkeypatch, caplog, place, ENCODINGS[encoding], secret)
    assert_without(everything, *spellings)


@pytest.mark.parametrize(("kind", "sent", "spellings"), VALUES)
@pytest.mark.parametrize("place", ["result", "call", "error", "log", "row"])
def test_a_secret_that_is_no_text_is_nowhere_in_its_usual_forms(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    kind: Any, sent: Any, spellings: list[str], place: str,
) -> None:  # fmt: skip
    bus = _vaulted(make_bus, monkeypatch, kind)
    for made in (str, repr, lambda value: " ".join(spellings), lambda value: _base64(spellings[0], "ann:")):
        everything = run(bus, monkeypatch, caplog, place, made, sent)
        assert_without(everything, *spellings, _base64(spellings[0], "ann:"))


@pytest.mark.parametrize(("kind", "sent", "spellings"), VALUES)
def test_nor_where_our_own_json_has_it(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    kind: Any, sent: Any, spellings: list[str],
) -> None:  # fmt: skip
    bus = _vaulted(make_bus, monkeypatch, kind)

    def do(handler: Any) -> Any:
        value = handler.args.password
        handler.mailer.store(value, deep=[value, str(value).encode()])
        if isinstance(value, datetime):
            handler.mailer.store(utc(value), deep=value.astimezone(timezone(timedelta(hours=5))))
        if isinstance(value, UUID):
            handler.mailer.store(value.bytes, deep=[value.hex, value.urn])
        return {"value": value, "list": [value]}

    monkeypatch.setattr(CallBack, "function", do)
    everything = told(bus, {"password": sent}, caplog)
    assert_without(everything, *(each for each in spellings if each != "2024-03-05T01:02:03"))
    assert '"value":"[secret]"' in everything.replace(" ", "")


def test_an_enum_is_hidden_by_name_and_value(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bus = _vaulted(make_bus, monkeypatch, Colour)
    monkeypatch.setattr(
        CallBack, "function", lambda h: [h.args.password, repr(h.args.password), h.mailer.store(h.args.password)]
    )
    for sent in ("VERMILION", "zinnober"):
        assert_without(told(bus, {"password": sent}, caplog).replace("required", ""), "VERMILION", "zinnober")


@pytest.mark.parametrize(
    "spelled",
    [
        lambda token: base64.b64encode(token).decode(), lambda token: base64.urlsafe_b64encode(token).decode().rstrip("="),
        lambda token: base64.b64encode(b"user:" + token).decode(), bytes.hex, lambda token: token.hex().upper(), repr,
        lambda token: urllib.parse.quote(token), lambda token: token.decode("latin-1"),
    ],
)  # fmt: skip
def test_bytes_handed_out_by_secrets_are_nowhere(
    vaulted: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spelled: Callable[[bytes], str]
) -> None:
    seen: list[bytes] = []

    def do(handler: Any) -> Any:
        token = handler.secrets.token_bytes()
        seen.append(token)
        handler.logger.warning("token %s", spelled(token))
        return [spelled(token), handler.mailer.store(token, deep=spelled(token)) and None]

    monkeypatch.setattr(CallBack, "function", do)
    for _ in range(20):
        everything = told(vaulted, {"password": "irrelevant"}, caplog)
        assert_without(everything, spelled(seen[-1]), base64.b64encode(seen[-1]).decode(), seen[-1].hex())


def test_the_same_value_elsewhere_in_what_was_sent(
    vaulted: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Any] = []
    monkeypatch.setattr(CallBack, "function", lambda h: got.append((h.args.note, h.context["session"])))
    everything = told(
        vaulted, {"note": f"my password is {HARD}", "password": HARD}, caplog, context={"session": HARD, "n": 1}
    )
    assert_without(everything, *(encode(HARD) for encode in ENCODINGS.values()))
    assert got == [(f"my password is {HARD}", HARD)], "the handler has what was sent"
    submitted = vaulted.journal.at(1)
    assert submitted is not None
    assert submitted.arguments["note"] == "my password is [secret]"
    assert submitted.context == {"session": "[secret]", "n": 1}


def test_a_number_of_few_digits_elsewhere_is_a_coincidence(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        CallBack, "arguments", {"pin": Arg(int, sensitive=True), "count": Arg(int), "other": Arg(int), "text": Arg(str)}
    )
    monkeypatch.setattr(CallBack, "function", lambda handler: "11 of 2024 are 1")
    bus = make_bus()
    outcome = bus.execute("call_back", {"pin": 1, "count": 1, "other": 11, "text": "a 1 in 2021"})
    record = bus.journal.outcome(outcome.action_id)
    assert record is not None
    redacted = {"$redacted": True}
    assert record.arguments == {"pin": redacted, "count": 1, "other": 11, "text": "a [secret] in 2021"}
    assert outcome.result == "11 of 2024 are [secret]"
    bus.execute("call_back", {"pin": 918273, "count": 918273, "other": 1, "text": ""})
    assert bus.journal.tail(1)[0].arguments["count"] == redacted


def test_a_repeated_call_answers_without_the_secret(
    vaulted: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spellings = [encode(HARD) for encode in ENCODINGS.values()]
    for key, do in enumerate([lambda h: spellings, lambda h: _raise(ExceptionGroup(HARD, [Closed(HARD)]))]):
        monkeypatch.setattr(CallBack, "function", do)
        for _ in range(2):
            everything = told(vaulted, {"password": HARD, "note": HARD}, caplog, idempotency_key=f"key {key}")
            assert_without(everything, *spellings)


@pytest.mark.parametrize("echo", [False, True])
def test_the_engine_log_has_no_values_of_an_action_with_secrets(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, url: Any, echo: bool
) -> None:
    _vaulted(make_bus, monkeypatch, str)  # makes the tables
    engine = create_engine(url, echo=echo)
    long = "".join(secrets.token_hex(8) for _ in range(200))

    def do(handler: Any) -> None:
        _insert(handler, handler.args.password or "harmless")
        handler.session.execute(text(f"SELECT name, '{handler.args.password}' FROM accounts")).all()

    monkeypatch.setattr(CallBack, "function", do)
    bus = Bus(make_application(), engine if echo else url)
    try:
        for secret in ("hunter22-hunter22", long):
            everything = told(bus, {"password": secret}, caplog)
            assert "INSERT INTO accounts" in everything
            assert_without(everything, *(secret[at : at + 16] for at in range(0, len(secret) - 15, 8)))
        monkeypatch.setattr(CallBack, "arguments", {"n": Arg(int, default=0)})
        monkeypatch.setattr(CallBack, "function", lambda handler: _insert(handler, "harmless"))
        again = Bus(make_application(), engine if echo else url)
        assert "harmless" in told(again, {}, caplog), "an action without secrets is logged as ever"
        again.close()
    finally:
        bus.close()
        engine.dispose()
